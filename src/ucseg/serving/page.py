"""The page at `/`, and what it asks for. Its script makes text of every name that it gets: no name becomes HTML."""

from __future__ import annotations

import secrets
import zlib
from importlib.resources import files
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ucseg.dataset.masks import read_label
from ucseg.errors import UserError
from ucseg.pictures.planes import Planes
from ucseg.scans.reading import read_scan
from ucseg.serving import pictures
from ucseg.serving.bodies import count
from ucseg.serving.frame import Frame
from ucseg.serving.guard import COOKIE
from ucseg.serving.labels import FINAL, Version
from ucseg.serving.queue import STATES
from ucseg.serving.session import Session
from ucseg.types import NOT_ANNOTATED, Array

PNG = "image/png"


class Page:
    """The routes of the page. Masks travel as one byte a voxel, slice by slice as the page shows them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._text = files("ucseg.serving").joinpath("page.html").read_text(encoding="utf-8")

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/enter", self.enter),
            Route("/page/queue", self.queue),
            Route("/page/case", self.case),
            Route("/page/slice", self.slice),
            Route("/page/mask", self.mask),
            Route("/page/label", self.label, methods=["PUT"]),
            Route("/page/say", self.say, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
        policy += f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        text = self._text.replace("NONCE", nonce)
        return Response(
            text, media_type="text/html", headers={"content-security-policy": policy, "cache-control": "no-store"}
        )

    async def enter(self, request: Request) -> Response:
        """The address that the server prints: the token becomes a cookie, and leaves the address bar."""
        answer = RedirectResponse("/", 303)
        token = request.query_params.get("token", "")
        if token.isascii():  # a header holds no other letters; the page then asks for the right one
            answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer

    async def queue(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._queue, request.query_params.get("strategy", "")))

    def _queue(self, strategy: str) -> dict[str, Any]:
        session, dataset = self.session, self.session.dataset
        strategies = session.strategies
        strategy = strategy if strategy in strategies else next(iter(strategies))
        saved = {version.case for version in session.labels.versions}
        said = session.queue.said
        names = [(case.case, "sent" if case.case in said["sent"] else "open") for case in session.queue.order(strategy)]
        names += [(case.case, "rejected") for case in dataset.unlabelled if case.case in said["rejected"]]
        names += [(case.case, "saved" if case.case in saved else "labelled") for case in dataset.labelled]
        rows = [{"case": name, "state": state, "score": session.score(name)} for name, state in names]
        classes = [name for _, name in sorted(dataset.config.classes.items())]
        return {
            "name": dataset.config.name,
            "model": session.model.origin,
            "classes": classes,
            "strategies": strategies,
            "strategy": strategy,
            "rows": rows,
            "training": session.trainings.progress(),
        }

    async def case(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._case, request.query_params.get("image", "")))

    def _case(self, name: str) -> dict[str, Any]:
        case, frame, answer = self.session.infer(name)
        planes = Planes.of(frame.geometry, frame.shape, case.image)
        shape = planes.slices(answer.prediction.mask).shape
        score = self.session.score(name)
        if score is None:
            score = answer.prediction.failure_score
        return {
            "case": case.case,
            "slices": shape[0],
            "rows": shape[1],
            "columns": shape[2],
            "where": [planes.where(index) for index in range(shape[0])],
            "letters": planes.letters,
            "aspect": planes.stretch,
            "labelled": case.mask is not None,
            "score": score,
        }

    async def slice(self, request: Request) -> Response:
        query = request.query_params
        content = await run_in_threadpool(
            self._slice, query.get("image", ""), query.get("index", "0"), query.get("what", "image")
        )
        return Response(content, media_type=PNG, headers={"cache-control": "no-store"})

    def _slice(self, name: str, number: str, what: str) -> bytes:
        case, frame, answer = self.session.infer(name)
        planes = Planes.of(frame.geometry, frame.shape, case.image)
        index = count(number)
        if index is None or index >= len(planes.slices(answer.prediction.mask)):
            raise HTTPException(404, "There is no such slice.")
        if what == "uncertainty":
            return pictures.map_png(answer.prediction.uncertainty, planes, index)
        array = answer.scan.array
        return pictures.image_png(array, planes, index, pictures.window(array))

    async def mask(self, request: Request) -> Response:
        query = request.query_params
        content, weights = await run_in_threadpool(self._mask, query.get("image", ""), query.get("of", "model"))
        headers = {"content-encoding": "deflate", "cache-control": "no-store", "x-weights": weights}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _mask(self, name: str, of: str) -> tuple[bytes, str]:
        """The model's mask, or the label that is there."""
        case, frame, answer = self.session.infer(name)
        mask: Array = answer.prediction.mask
        if of == "label":
            _, address = self.session.label_of(name, FINAL)
            label = read_label(address, frame.shape, self.session.dataset.config, frame.geometry, case.slices)
            mask = np.where(label == NOT_ANNOTATED, mask, label)  # to correct: the model's where nobody has said
        if mask.max(initial=0) > 255:
            raise UserError("page-classes", "The page shows up to 255 classes; use 3D Slicer.")
        seen = Planes.of(frame.geometry, frame.shape, case.image).slices(mask)
        return zlib.compress(np.ascontiguousarray(seen, np.uint8).tobytes(), 1), answer.origin["weights"]

    async def label(self, request: Request) -> Response:
        """The whole mask as a person left it, one byte a voxel. Nothing of an earlier answer is needed to keep it."""
        query, content = request.query_params, await request.body()
        edited, of_label = query.get("edited") == "true", query.get("of") == "label"
        version = await run_in_threadpool(
            self._label, query.get("image", ""), content, edited, of_label, query.get("who", "")
        )
        return JSONResponse({"case": version.case, "version": version.number, "warnings": version.warnings})

    def _label(self, name: str, content: bytes, edited: bool, of_label: bool, who: str) -> Version:
        case = self.session.case(name)
        scan = read_scan(case.image)
        frame = Frame.of(scan, case.image.plain)
        planes = Planes.of(frame.geometry, frame.shape, case.image)
        shape = planes.slices(np.broadcast_to(np.uint8(0), frame.shape)).shape
        if len(content) != int(np.prod(shape)):
            raise HTTPException(400, "The mask does not have the size of its image.")
        label = np.ascontiguousarray(planes.whole(np.frombuffer(content, np.uint8).reshape(shape)))
        if label.max(initial=0) >= len(self.session.dataset.config.classes):
            raise HTTPException(400, "The mask holds a number that is no class.")
        note: dict[str, Any] = {"how": f"page, {'corrected' if edited else 'accepted'}", "client": who or None}
        if of_label:  # it began with a label, and not with what a model said
            note["model"] = None
        return self.session.keep(case, label, scan, FINAL, note)

    async def say(self, request: Request) -> Response:
        query = request.query_params
        what = query.get("what", "")
        if what not in (*STATES, "open"):
            raise HTTPException(400, f"what={what[:40]} is not known; use one of {', '.join((*STATES, 'open'))}.")
        return JSONResponse(await run_in_threadpool(self._say, query.get("image", ""), what, query.get("who", "")))

    def _say(self, name: str, what: str, who: str) -> dict[str, str]:
        case = self.session.case(name)
        self.session.say(case, what, who)
        return {"case": case.case, "state": what}
