"""The REST protocol of MONAI Label 0.8.5, which the plug-ins of 3D Slicer and OHIF speak.

Every client names an image by its case. Names are looked up in the dataset and never become paths.
"""

from __future__ import annotations

import html
import logging
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ucseg import __version__
from ucseg.errors import UserError
from ucseg.scans.address import ending_of
from ucseg.serving import answers
from ucseg.serving.bodies import count, named_values, number, parts
from ucseg.serving.guard import same
from ucseg.serving.labels import FINAL
from ucseg.serving.queue import STRATEGIES
from ucseg.serving.session import Session

MODEL = "ucseg"
"""The name of the one model and its trainer."""
log = logging.getLogger("ucseg.serve")


class Protocol:
    """What the plug-ins of 3D Slicer and OHIF call."""

    def __init__(self, session: Session, token: str) -> None:
        self.session, self.token = session, token
        self.lines: deque[str] = deque(maxlen=2000)
        handler = _Lines(self.lines)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/auth/", self.auth),
            Route("/auth/token", self.sign_in, methods=["POST"]),
            Route("/auth/token/valid", self.valid),
            Route("/info/", self.info),
            Route("/datastore/", self.datastore),
            Route("/datastore/image", self.image),
            Route("/datastore/label", self.label),
            Route("/datastore/label", self.save_label, methods=["PUT"]),
            Route("/activelearning/{strategy}", self.next_sample, methods=["POST"]),
            Route("/infer/{model}", self.infer, methods=["POST"]),
            Route("/train/", self.train_status),
            Route("/train/", self.train, methods=["POST"]),
            Route("/train/", self.train_stop, methods=["DELETE"]),
            Route("/train/{model}", self.train, methods=["POST"]),
            Route("/logs/", self.logs),
        ]

    async def auth(self, request: Request) -> Response:
        return JSONResponse({"enabled": bool(self.token), "realm": "ucseg", "client_id": "ucseg"})

    async def sign_in(self, request: Request) -> Response:
        """The password is the token; the user's name is free."""
        form = await request.form(max_files=0, max_fields=20, max_part_size=4096)
        if not same(str(form.get("password", "")), self.token):
            raise HTTPException(401, "This is not the token that the server printed.")
        return JSONResponse({"access_token": self.token or "none", "token_type": "bearer"})

    async def valid(self, request: Request) -> Response:
        return JSONResponse({"valid": True})

    async def info(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._info))

    def _info(self) -> dict[str, Any]:
        session = self.session
        dataset, plan = session.dataset, session.model.predictor.plan
        labels = [name for index, name in sorted(dataset.config.classes.items()) if index]
        progress = session.trainings.progress()
        done = progress.get("status") not in ("RUNNING", "SUBMITTED")
        stats = {
            "epoch": progress.get("step", 0),
            "total_epochs": progress.get("steps", 0),
            "best_metric": progress.get("best") or 0,
            "best_key_metric": progress.get("best") or 0,
            "start_ts": (session.trainings.last or {}).get("start_ts", ""),
            **({"total_time": f"{progress['seconds']:.0f} s"} if progress and done else {}),
        }
        about = f"{session.model.origin['run']}, weights {session.model.origin['checkpoint']}"
        return {
            "name": f"ucseg: {dataset.config.name}",
            "description": "Segmentation by a model that ucseg trained on few masks and many scans.",
            "version": __version__,
            "labels": labels,
            "models": {
                MODEL: {
                    "type": "segmentation",
                    "labels": {name: index for index, name in sorted(dataset.config.classes.items()) if index},
                    "dimension": plan.dims,
                    "description": about,
                    "config": {},
                }
            },
            "trainers": {MODEL: {"config": {"steps": session.trainings.usual_steps}, "description": about}},
            "strategies": {name: {"description": what} for name, what in self.session.strategies.items()},
            "scoring": {},
            "train_stats": {MODEL: stats} if progress else {},
            "datastore": self._stats(),
        }

    def _stats(self) -> dict[str, Any]:
        cases = self.session.dataset.cases
        tags: dict[str, int] = {}
        for case in cases:
            for tag in self._tags(case):
                tags[tag] = tags.get(tag, 0) + 1
        return {"total": len(cases), "completed": sum(case.mask is not None for case in cases), "label_tags": tags}

    def _tags(self, case: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if case.mask is not None:
            newest = self.session.labels.newest(case.case)
            found[FINAL] = {"ext": case.mask.ending, "info": {} if newest is None else newest.note}
        for version in self.session.labels.of(case.case):
            found[f"v{version.number}"] = {"ext": ending_of(version.mask.name), "info": version.note}
        return found

    async def datastore(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._datastore, request.query_params.get("output", "stats")))

    def _datastore(self, output: str) -> Any:
        dataset = self.session.dataset
        if output == "train":
            return [{"image": str(case.image), "label": str(case.mask)} for case in dataset.labelled]
        if output != "all":
            return self._stats()
        objects = {
            case.case: {"image": {"ext": case.image.ending, "info": {"split": case.split}}, "labels": self._tags(case)}
            for case in dataset.cases
        }
        return {
            "name": dataset.config.name,
            "description": "",
            "images_dir": str(dataset.root),
            "labels_dir": str(self.session.labels.folder),
            "objects": objects,
        }

    async def image(self, request: Request) -> Response:
        case = await run_in_threadpool(self.session.case, request.query_params.get("image", ""))
        ending, found = await run_in_threadpool(answers.image_file, case.image)
        name = answers.file_name(case.case, ending)
        if isinstance(found, bytes):
            return answers.attached(found, name)
        return FileResponse(found, media_type=answers.OCTETS, filename=name)

    async def label(self, request: Request) -> Response:
        query = request.query_params
        case, mask = await run_in_threadpool(
            self.session.label_of, query.get("label", ""), query.get("tag", "") or FINAL
        )
        ending, found = await run_in_threadpool(answers.image_file, mask)
        name = answers.file_name(case.case, ending)
        if isinstance(found, bytes):
            return answers.attached(found, name)
        return FileResponse(found, media_type=answers.OCTETS, filename=name)

    async def save_label(self, request: Request) -> Response:
        query = request.query_params
        params, files = await parts(request)
        sent = files.get("label")
        if sent is None:
            raise HTTPException(400, "There is no part 'label' in the body; send the label's file in it.")
        content = await sent.read()
        version = await run_in_threadpool(
            self.session.receive,
            query.get("image", ""),
            query.get("tag", "") or FINAL,
            sent.filename or "",
            content,
            params,
        )
        about = {"image": version.case, "label": version.case, "version": version.number, "tag": version.tag}
        return JSONResponse(about | {"warnings": version.warnings})

    async def next_sample(self, request: Request) -> Response:
        strategy = request.path_params["strategy"]
        if strategy not in STRATEGIES:
            raise HTTPException(404, f"This strategy is not known; use one of {', '.join(STRATEGIES)}.")
        client = str((await named_values(request)).get("client_id") or "")
        case = await run_in_threadpool(self.session.queue.next, strategy, client)
        if case is None:
            return JSONResponse({})
        own = not case.image.several and not case.image.part and case.image.ending in answers.VIEWABLE
        return JSONResponse(
            {
                "id": case.case,
                "weight": self.session.score(case.case) or 0,
                # The plug-in opens it itself if it runs on this machine.
                "path": str(case.image.file) if own and not self.token else "",
                "ts": int(time.time()),
                "name": answers.file_name(case.case, case.image.ending if own else ".nii.gz"),
            }
        )

    async def infer(self, request: Request) -> Response:
        if request.path_params["model"] != MODEL:
            raise HTTPException(404, f"This model is not known; there is one, {MODEL}.")
        query = request.query_params
        params, files = await parts(request)
        output = query.get("output") or "all"
        if output not in ("image", "json", "all"):
            raise HTTPException(400, f"output={output[:40]} is not known; use image, json or all.")
        sent = files.get("file")
        content = await sent.read() if sent is not None else None
        name = sent.filename or "" if sent is not None else ""
        return await run_in_threadpool(self._infer, query.get("image", ""), name, content, params, output)

    def _infer(
        self, image: str, file_name: str, content: bytes | None, params: Mapping[str, Any], output: str
    ) -> Response:
        if content is None:
            if not image:
                raise UserError("infer-nothing", "No image is named: add ?image=CASE, or send a file.")
            case, frame, answer = self.session.infer(image)
            name = case.case
        else:
            ending = ending_of(file_name)
            if ending not in answers.VIEWABLE:
                raise UserError("infer-format", f"Images of '{ending}' are not taken; send .nii.gz, .nrrd or .png.")
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"image{ending}"
                file.write_bytes(content)
                frame, answer = self.session.infer_file(file)
            name = "image"
        prediction = answer.prediction
        classes = self.session.dataset.config.classes
        about = {
            "label_names": {label: index for index, label in sorted(classes.items()) if index},
            "failure_score": number(prediction.failure_score),
            "mean_uncertainty": float(prediction.uncertainty.mean()),
            "model": answer.origin,
        }
        if output == "json":
            return JSONResponse(about)
        ending = str(params.get("result_extension") or ".nrrd")
        kind = str(params.get("result_dtype") or "uint8")
        compress = params.get("result_compress", True) is not False
        mask = answers.mask_file(prediction.mask, frame, ending, kind, compress)
        ending = ".nrrd" if ending == ".seg.nrrd" else ending
        if output == "image":
            return answers.attached(mask, answers.file_name(name, ending))
        return answers.two_parts(about, answers.file_name(name, ending), mask)

    async def train(self, request: Request) -> Response:
        model = request.path_params.get("model", MODEL)
        if model != MODEL:
            raise HTTPException(404, f"This model is not known; there is one, {MODEL}.")
        asked = await named_values(request)
        inner = asked.get(MODEL)
        asked = {**asked, **inner} if isinstance(inner, dict) else asked
        wanted = {key: asked[key] for key in ("steps", "client_id") if asked.get(key) is not None}
        return JSONResponse(await run_in_threadpool(self.session.trainings.submit, wanted))

    async def train_status(self, request: Request) -> Response:
        trainings = self.session.trainings
        only_running = request.query_params.get("check_if_running", "").lower() in ("true", "1")
        found = await run_in_threadpool(lambda: trainings.running if only_running else trainings.last)
        if found is None:
            raise HTTPException(404, "No training is running." if only_running else "There was no training yet.")
        return JSONResponse(found)

    async def train_stop(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.session.trainings.stop))

    async def logs(self, request: Request) -> Response:
        query = request.query_params
        lines = min(2000, count(query.get("lines", "")) or 300)
        training = await run_in_threadpool(self.session.trainings.log, lines)
        text = "\n".join([*list(self.lines)[-lines:], *(["", "training:", training] if training else [])])
        if query.get("html", "true").lower() == "false" or query.get("text", "").lower() == "true":
            return PlainTextResponse(text)
        return Response(f"<!doctype html><title>ucseg</title><pre>{html.escape(text)}</pre>", media_type="text/html")


class _Lines(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
