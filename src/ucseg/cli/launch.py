"""One process for each device: started here, or by torchrun or SLURM and joined here."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ucseg.cli.terminal import console, output
from ucseg.errors import Interrupted, UserError

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

T = TypeVar("T")
POLL = 0.2  # seconds
GRACE = 10.0  # seconds that the other processes get to end by themselves once one has failed
# Ranks wait for the first one while it prepares the data. One that died is noticed at once all the same.
PATIENCE = timedelta(days=1)
UNGUARDED = 64  # exit code of a process that would have started others while it read the user's script
AGAIN = "the last save is kept; continue with --resume"


class Lost(UserError):
    """Another process is gone, so that this one cannot go on."""


def launch(work: Callable[[], T], devices: int, nodes: int, device: str) -> T:
    """`work()` in a process for each of so many devices and machines; the result is rank 0's.

    Args:
        work: can be pickled; it finds its rank in `ucseg.ranks`.
        nodes: machines. With more than one, torchrun or SLURM (srun) has started the processes.

    Raises:
        UserError: devices, machines and processes do not fit together, or a process has ended too early.
    """
    environment = _started_by_others()
    if environment is not None:
        started = environment.world_size()
        if started != devices * nodes:
            raise UserError(
                "processes-number",
                f"{started} processes are running, but --devices {devices} --nodes {nodes} make {devices * nodes}; "
                "give the devices of one machine and the number of machines.",
            )
        _require_devices(devices, device)
        address = (environment.main_address, environment.main_port)
        _describe(environment.global_rank(), started, environment.local_rank(), environment.node_rank(), *address)
        try:
            result = _join(work, device)
        except (Interrupted, Lost):
            if environment.global_rank() == 0:
                raise
            sys.exit(1)  # rank 0 reports it, for all
        _leave()
        return result
    if nodes > 1:
        raise UserError(
            "nodes-not-started",
            f"--nodes {nodes}: start ucseg on each machine with torchrun or srun (docs/how-to/scale.md).",
        )
    if devices == 1:
        return work()
    # multiprocessing sets this while a new process reads the main module. Seen before torch is imported, for seconds.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(UNGUARDED)
    _require_devices(devices, device)
    return _spawn(work, devices, device)


def starter() -> Literal["torchrun", "srun"] | None:
    """What started this process, if there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    # Not SLURM_NTASKS: a batch script sees it too, though it runs alone.
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 else None


def hush() -> None:
    """Silence DDP, which warns on each process of what is intended. Call it before torch is imported."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _started_by_others() -> ClusterEnvironment | None:
    """Where to ask for ranks if torchrun or srun started several processes."""
    if starter() == "torchrun":
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        return TorchElasticEnvironment()
    if starter() == "srun":
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        try:
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError:  # with --ntasks alone, SLURM may spread tasks over machines in any way
            raise UserError(
                "srun-ntasks", "srun has --ntasks; use --nodes and --ntasks-per-node (devices of each machine) instead."
            ) from None
    return None


def _require_devices(devices: int, name: str) -> None:
    import torch

    from ucseg.training.device import choose_device

    if ":" in name or choose_device(name).type == "mps":
        raise UserError("devices-kind", f"--devices {devices} --device {name}: use --device auto, cuda or cpu.")
    if choose_device(name).type == "cuda" and devices > torch.cuda.device_count():
        raise UserError("devices-number", f"--devices {devices}: there are {torch.cuda.device_count()}; give fewer.")


def _describe(*place: str | int) -> None:
    """Set torchrun's environment variables, from which `ucseg.ranks` and torch read this process's place."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
    os.environ |= dict(zip(names, map(str, place), strict=True))


def _join(work: Callable[[], T], name: str) -> T:
    """Join the processes that torchrun's environment variables describe."""
    import torch
    from torch import distributed

    from ucseg.training.device import choose_device

    on_cpu = choose_device(name).type == "cpu"
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        # Between steps, ranks agree over CPUs: that must not wait for the GPU.
        distributed.init_process_group("gloo" if on_cpu else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
        console.quiet = output.quiet = distributed.get_rank() > 0
        return work()
    except (RuntimeError, distributed.DistError) as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise Lost("process-lost", f"another process of this training ended or cannot be reached; {AGAIN}.") from None


def _leave() -> None:
    """End the process group and its threads, which DDP still holds: one that needs Python while it ends aborts."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()


def _spawn(work: Callable[[], T], devices: int, device: str) -> T:
    """A process for each device of this machine, watched until all have ended."""
    from torch.multiprocessing import get_context
    from torch.multiprocessing.spawn import ProcessExitedException, start_processes

    from ucseg.training.stopping import StopSignal

    hush()
    results = get_context("spawn").SimpleQueue()
    arguments = (work, devices, device, _free_port(), results)
    with StopSignal() as stop:
        started = start_processes(_run_rank, arguments, devices, join=False, start_method="spawn")  # type: ignore[no-untyped-call]
        passed_on = False
        try:
            while not started.join(timeout=POLL, grace_period=GRACE):
                if stop.asked and not passed_on:
                    passed_on = True
                    for one in filter(lambda one: one.is_alive(), started.processes):
                        os.kill(one.pid, signal.SIGINT)
        except ProcessExitedException:
            pass  # it has reported why, or was killed
        except BaseException:
            for one in started.processes:
                one.kill()
            raise
    said: dict[int, Any] = {}
    while not results.empty():
        rank, outcome = results.get()
        said[rank] = outcome
    return cast(T, _outcome(said, [one.exitcode for one in started.processes]))


def _free_port() -> int:
    """The same function of lightning takes as long to import as torch does, and nothing else is needed of it here."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _outcome(said: dict[int, Any], codes: list[int | None]) -> Any:
    """Rank 0's result, or the error of the process that failed first-hand."""
    errors = [one for one in said.values() if isinstance(one, Exception) and not isinstance(one, Lost)]
    if errors:
        raise errors[0]
    if UNGUARDED in codes:
        raise UserError(
            "script-unguarded",
            f"devices={len(codes)} starts processes that read this script, too; put the call below "
            "`if __name__ == '__main__':`.",
        )
    killed = [f"process {rank} was killed by signal {-code}" for rank, code in enumerate(codes) if code and code < 0]
    if killed:
        raise UserError("process-killed", f"{', '.join(killed)}; the others have ended, too: {AGAIN}.")
    if 0 not in said:
        raise KeyboardInterrupt  # before training started: there is nothing to continue
    if isinstance(said[0], Exception):
        raise said[0]
    return said[0]


def _run_rank(index: int, work: Callable[[], Any], devices: int, device: str, port: int, results: Any) -> None:
    """The work of a process of `_spawn`. Rank 0 sends its result, every rank a mistake of the user."""
    import torch

    _describe(index, devices, index, 0, "127.0.0.1", port)
    torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    code = 0
    try:
        outcome = _join(work, device)
        if index == 0:
            results.put((index, outcome))
    except Lost as error:  # a group without all its ranks may wait for ever
        results.put((index, error))
        sys.exit(2)
    except (UserError, Interrupted) as error:
        results.put((index, error))
        code = 0 if isinstance(error, Interrupted) else 2
    _leave()
    sys.exit(code)
