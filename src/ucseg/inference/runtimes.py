"""What computes an exported model, without torch: OpenVINO (ucseg[openvino]), or ONNX Runtime (ucseg[onnx])."""

from __future__ import annotations

import functools
import importlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ucseg.errors import UserError
from ucseg.machine.cores import cores
from ucseg.types import Array

Session = Callable[[Array], list[Array]]
"""B x Cin x S float32 -> the outputs of the graph, in its order."""

SHAPES_KEPT = 4
"""Compiled forms of one model: of a whole batch, of the last one of a scan, and of another size of windows."""


def open_session(graph: Path, precision: str, example: tuple[int, ...]) -> tuple[Session, str]:
    """The quicker runtime of those installed, with a graph loaded, and its precision.

    Args:
        graph: ONNX file.
        precision: "auto" (the quicker one), "bf16" or "fp32".
        example: B x Cin x S of the images by which "auto" measures.

    Raises:
        UserError: no runtime is installed, or it has no bfloat16.
    """
    if (openvino := _module("openvino")) is not None:
        return _openvino(openvino, graph, precision, example)
    if _module("onnxruntime") is not None:
        if precision == "bf16":
            raise UserError(
                "runtime-no-bf16",
                "--precision bf16: ONNX Runtime has none on a CPU; take fp32, or pip install 'ucseg[openvino]'.",
            )
        return onnxruntime_session(graph), "fp32"
    raise UserError(
        "runtime-missing",
        "an exported model needs OpenVINO or ONNX Runtime; install one: pip install 'ucseg[openvino]'.",
    )


def _module(name: str) -> Any | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _openvino(openvino: Any, graph: Path, precision: str, example: tuple[int, ...]) -> tuple[Session, str]:
    core = openvino.Core()
    model = core.read_model(graph)
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_bf16:
        raise UserError("runtime-no-bf16", "--precision bf16: this processor has no bfloat16; take fp32 or auto.")

    def session(kind: str) -> Session:
        hints = {
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[kind],
            "INFERENCE_NUM_THREADS": cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }

        # Of fixed shapes: a graph of any shape is computed more slowly.
        @functools.lru_cache(maxsize=SHAPES_KEPT)
        def request(shape: tuple[int, ...]) -> Any:
            own = model.clone()
            own.reshape(list(shape))
            return core.compile_model(own, "CPU", hints).create_infer_request()

        def run(image: Array) -> list[Array]:
            running = request(image.shape)
            running.infer([image], share_inputs=True)
            return [np.array(output.data, np.float32) for output in running.output_tensors]

        return run

    if precision == "auto" and has_bf16:
        both = {kind: session(kind) for kind in ("bf16", "fp32")}
        precision = min(both, key=lambda kind: _seconds(both[kind], example))
        return both[precision], precision
    precision = "fp32" if precision == "auto" else precision
    return session(precision), precision


def _seconds(session: Session, example: tuple[int, ...]) -> float:
    image, fastest = np.zeros(example, np.float32), math.inf
    for _ in range(3):  # the first one compiles
        start = time.perf_counter()
        session(image)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def onnxruntime_session(graph: Path) -> Session:
    """A graph loaded into ONNX Runtime, on the CPU in float32."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.log_severity_level = 3  # it warns of shapes that it cannot infer
    # Between two operators its threads would spin, on cores that read and write other scans meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def run(image: Array) -> list[Array]:
        answers: list[Array] = session.run(None, {"image": image})
        return answers

    return run
