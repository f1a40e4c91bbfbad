"""Where the time of a training step goes; `python benchmarks/step.py --profile SIZE` runs it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function
from torch.utils.flop_counter import FlopCounterMode

from ucseg.training.allocator import kept_memory

CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::convolution_backward")  # as they are named on a CPU


def matmul_rate(precision: str) -> float:
    """GFLOP a second of a large matrix product: what this machine can do at best."""
    edge = 4096
    a = torch.randn(edge, edge, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    seconds = []
    for _ in range(7):
        begun = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - begun)
    return 2 * edge**3 / statistics.median(seconds) / 1e9


@kept_memory()  # as in training
def profile(method: Any, step: Callable[[int], None], precision: str, warm_up: int, repeats: int) -> dict[str, Any]:
    """Shares of a step's time: of the method's parts (forward, and backward as a whole), and of torch's operators.

    And how fast its convolutions are, beside a large matrix product.
    """
    best = matmul_rate(precision)

    def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **settings: Any) -> Any:
            with record_function(f"part: {name}"):
                return function(*arguments, **settings)

        return run

    for k, subnet in enumerate(method.subnets):
        subnet.forward = named(f"subnet {k + 1}", subnet.forward)
    for name in ("fuse", "supervised", "cross_terms", "mix", "remember"):
        setattr(method, name, named(name, getattr(method, name)))
    torch.Tensor.backward = named("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    torch.optim.SGD.step = named("optimiser", torch.optim.SGD.step)  # type: ignore[method-assign]
    with FlopCounterMode(display=False) as counter:
        step(0)
    counted = counter.get_flop_counts()["Global"]
    gflop = sum(number for name, number in counted.items() if "convolution" in str(name)) / 1e9
    for number in range(warm_up):
        step(number)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as made, record_function("whole"):
        for number in range(repeats):
            step(warm_up + number)
    events = made.key_averages()
    whole = next(event.cpu_time_total for event in events if event.key == "whole")
    parts = {e.key.removeprefix("part: "): e.cpu_time_total / whole for e in events if e.key.startswith("part: ")}
    names = {
        e.key: e.self_cpu_time_total / whole for e in events if not e.key.startswith("part: ") and e.key != "whole"
    }
    share = sum(value for name, value in names.items() if name in CONVOLUTIONS)
    seconds = whole / 1e6 / repeats

    def largest(shares: dict[str, float]) -> dict[str, float]:
        return {k: round(v, 3) for k, v in sorted(shares.items(), key=lambda item: -item[1])[:25] if v >= 0.002}

    return {
        "seconds": round(seconds, 4),
        "convolutions": {
            "seconds": round(share * seconds, 4),
            "gflop": round(gflop),
            "gflop_a_second": round(gflop / (share * seconds)),
        },
        "matmul_gflop_a_second": round(best),
        "parts": largest(parts),
        "operators": largest(names),
    }
