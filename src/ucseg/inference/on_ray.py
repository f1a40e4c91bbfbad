"""Cases shared between workers on this machine or on a cluster, by Ray (the extra `ucseg[ray]`).

A worker loads the model once and gets one case at a time, so that a slow case holds up no other one. It writes the
case's files; the caller writes the table. A worker that dies is replaced, and its case starts again.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ucseg.errors import UserError
from ucseg.folder.inputs import Input
from ucseg.folder.predictions import ABOUT
from ucseg.inference.cases import predict_case
from ucseg.inference.ensemble import AnyPredictor
from ucseg.inference.outputs import CaseFiles, Row, failed_row
from ucseg.machine.cores import cores
from ucseg.machine.reading import read_json
from ucseg.training.allocator import kept_memory
from ucseg.training.stopping import StopSignal

ATTEMPTS = 3
"""Workers that one case may cost; also how many may die one after the other before they have loaded the model."""
CORES_EACH = 4
"""Cores a worker where there is no GPU and no number of workers is given; there are two at least."""
POLL = 0.5  # seconds
PATIENCE = 30.0  # seconds without a ready worker, after which a message says so
_KILLED = "were killed at this, most likely because memory ran out; try fewer --workers"
_START_ONE = "start one with `ray start --head`, or use --ray local"


class Worker:
    """Predicts cases in its own process, on any machine of the cluster, with the weights of this digest."""

    def __init__(self, make: Callable[[], AnyPredictor], weights: str, files: CaseFiles) -> None:
        self._make, self._weights, self._files = make, weights, files

    def load(self) -> None:
        """Load the model; a UserError if this machine does not see the caller's folder, or the weights have changed."""
        host, about = socket.gethostname(), self._files.path / ABOUT
        if not about.exists() or read_json(about).get("weights") != self._weights:
            raise UserError(
                "ray-folder",
                f"{host}: this machine does not see {self._files.path}; "
                "scans, run and --out must lie where all machines see them.",
            )
        self._predictor = self._make()
        if self._predictor.weights != self._weights:
            raise UserError("ray-weights", f"{host}: the run's weights changed since the start; choose another --out.")
        self._kept = kept_memory(self._predictor.place == "cpu")
        self._kept.__enter__()  # to the end of this process

    def do(self, item: Input) -> Row:
        """Predict one scan."""
        return predict_case(self._predictor, item, self._files)


def predict_on_ray(
    ray: Any,
    make: Callable[[], AnyPredictor],
    weights: str,
    files: CaseFiles,
    items: Sequence[Input],
    done: Callable[[Row], None],
    say: Callable[[str, str], None],
    *,
    device: str = "auto",
    workers: int | None = None,
) -> None:
    """Predict scans on the workers of a Ray cluster.

    Args:
        ray: connected, see `cluster`.
        make: gives each worker its predictor; can be pickled.
        weights: digest of the weights; a worker that finds others (training goes on) is not used.
        files: of each case, in a folder (absolute) that all machines see.
        done: called with the line of each case, once, in the order in which they end.
        say: called with (kind, text) of what the user has to know meanwhile.
        device: unless "cpu", each worker has its own GPU where the cluster has any.
        workers: how many; by default one for each GPU, or for four cores.

    Raises:
        UserError: workers cannot start, or results cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after the running cases have ended. A second one drops them.
    """
    if not items:
        return
    gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    number, options = share(ray.nodes(), "GPU" if gpu else "CPU", workers, len(items))
    actor = ray.remote(Worker).options(**options)
    waiting, costs, announced = deque(items), Counter[str](), False
    with StopSignal() as stop:
        crew = Crew(ray, lambda: actor.remote(make, weights, files), say)
        try:
            while crew.busy or (waiting and not stop.asked):
                if stop.asked and not announced:
                    announced = True
                    say("stopping", "Stopping when the running cases have ended; Ctrl-C again drops them.")
                while waiting and crew.ready and not stop.asked:
                    crew.give(waiting.popleft())
                crew.grow_to(min(number, crew.busy + len(waiting)))
                for item, row in crew.ended():
                    if row is not None:
                        done(row)
                        continue
                    costs[item.case] += 1
                    if costs[item.case] < ATTEMPTS:
                        waiting.append(item)
                    else:
                        reason = f"{item.address}: {ATTEMPTS} workers {_KILLED} or other machines."
                        done(failed_row(item, reason))
        finally:
            crew.end()
        if waiting:
            raise KeyboardInterrupt


class Crew:
    """Workers, and what each works on: scans here, cells of a comparison in `comparison/on_ray.py`.

    A worker has `load()`, which it does first, and `do(item)`.
    """

    def __init__(self, ray: Any, begin: Callable[[], Any], say: Callable[[str, str], None]) -> None:
        self.ready: list[Any] = []
        self._ray, self._begin, self._say = ray, begin, say
        self._at: dict[Any, tuple[Any, Any]] = {}  # worker and item of each answer; None: it loads
        self._dead_at_start = 0
        self._remind_after = time.monotonic() + PATIENCE

    @property
    def busy(self) -> int:
        return sum(item is not None for _, item in self._at.values())

    @property
    def doing(self) -> list[Any]:
        """Items that are worked on."""
        return [item for _, item in self._at.values() if item is not None]

    @property
    def at_work(self) -> list[Any]:
        """The workers that work on them."""
        return [worker for worker, item in self._at.values() if item is not None]

    def grow_to(self, number: int) -> None:
        """Start workers until there are so many; those that died are replaced.

        A cluster without room starts them later or never, so only a ready worker gets a case.
        """
        while len(self.ready) + len(self._at) < number:
            worker = self._begin()
            self._at[worker.load.remote()] = (worker, None)

    def give(self, item: Any) -> None:
        worker = self.ready.pop()
        self._at[worker.do.remote(item)] = (worker, item)

    def ended(self) -> Iterator[tuple[Any, Any]]:
        """Items that ended within POLL seconds, and what came out; None where the worker died."""
        if time.monotonic() > self._remind_after:
            self._remind_after = math.inf
            self._say("no-worker-yet", "No worker has started yet; the cluster may be busy.")
        answers = self._ray.wait(list(self._at), timeout=POLL)[0]
        if not answers and not any(node["Alive"] for node in self._ray.nodes()):
            raise UserError("ray-gone", "No machine of the Ray cluster is left; give the same command with --resume.")
        for answer in answers:
            worker, item = self._at.pop(answer)
            row = None
            try:
                row = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError | OSError):
                    raise error.cause from None
                raise
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.OutOfMemoryError) as error:
                self._ray.kill(worker)  # one out of reach may live, and must not write what another one does
                self._dead_at_start += item is None
                if self._dead_at_start == ATTEMPTS:
                    # Python's words if a worker could not even be made: its machine lacks ucseg, say.
                    made = not getattr(error, "actor_init_failed", False)
                    raise UserError(
                        "ray-workers-died",
                        f"{ATTEMPTS} workers {_KILLED}."
                        if made
                        else f"Workers cannot start: {str(error).splitlines()[-1]}",
                    ) from None
            else:
                self.ready.append(worker)
                if item is None:
                    self._dead_at_start, self._remind_after = 0, math.inf
            if item is not None:
                yield item, row

    def end(self) -> None:
        """End all workers, also those at work."""
        for worker in [*self.ready, *(worker for worker, _ in self._at.values())]:
            self._ray.kill(worker)


@contextmanager
def cluster(address: str, workers: int | None = None) -> Iterator[Any]:
    """Ray, connected to a cluster, which is left as it was found. An existing connection is used.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    try:
        import ray
    except ImportError:
        raise UserError("ray-not-installed", '--ray needs Ray, which is missing: pip install "ucseg[ray]".') from None
    if ray.is_initialized():
        yield ray
        return
    answers = _require_an_answer(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        # Only names of files pass through Ray's memory; by default it takes a third of the machine's.
        quiet |= {"include_dashboard": False, "object_store_memory": 10**8}
        quiet |= {"num_cpus": max(workers or 1, cores())}
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray also raises bare ones, if it cannot start in time
        reason = str(error).strip().split("\n")[0]
        if answers or "authentication" in reason.lower():
            raise UserError(
                "ray-refused",
                f"--ray {address}: a cluster answers, but lets this machine not in ({reason}); "
                "set RAY_AUTH_TOKEN to the cluster's token on every machine, and use one version of Ray.",
            ) from None
        raise UserError("ray-unreachable", f"--ray {address}: no cluster answers ({reason}); {_START_ONE}.") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_an_answer(address: str) -> bool:
    """Check HOST:PORT first: where nothing answers, Ray asks again for minutes and cannot be interrupted.

    Returns:
        True if something answers, False if the address is none that can be asked.

    Raises:
        UserError: nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return False  # "local", "auto", or an address that Ray itself will refuse
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError("ray-unreachable", f"--ray {address}: no cluster answers ({error}); {_START_ONE}.") from None
    return True


def share(nodes: list[dict[str, Any]], by: str, workers: int | None, cases: int) -> tuple[int, dict[str, Any]]:
    """Number of workers, and what Ray shall give each: its GPU, and cores (which Ray makes its number of threads)."""
    own = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get(by)]
    total = int(sum(node[by] for node in own))
    number = min(cases, workers or (total if by == "GPU" else max(2, total // CORES_EACH)))
    cores = min((int(node.get("CPU", 1)) for node in own), default=1) // -(-number // max(1, len(own)))
    # Not Ray but `predict_on_ray` starts a lost case again, since it counts the attempts.
    again = {"max_restarts": 0, "max_task_retries": 0}
    return number, {"num_cpus": max(1, cores), "num_gpus": int(by == "GPU"), "scheduling_strategy": "SPREAD", **again}
