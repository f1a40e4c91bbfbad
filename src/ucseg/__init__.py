"""Semi-supervised medical image segmentation: few masks and many scans in; a model, masks, uncertainty and numbers out.

Every verb of the command line is one Python call with the same words: `ucseg train DATA --out RUN` is
`ucseg.train(DATA, out=RUN)`. A verb is imported when it is first used, so `import ucseg` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ucseg.cli.add_masks import add_masks
    from ucseg.cli.check import check
    from ucseg.cli.compare import compare
    from ucseg.cli.datasets import datasets
    from ucseg.cli.demo import demo
    from ucseg.cli.download import download
    from ucseg.cli.evaluate import evaluate
    from ucseg.cli.export import export
    from ucseg.cli.import_ import import_
    from ucseg.cli.init import init
    from ucseg.cli.label_next import label_next
    from ucseg.cli.plan import plan
    from ucseg.cli.predict import predict
    from ucseg.cli.prepare import prepare
    from ucseg.cli.pretrain import pretrain
    from ucseg.cli.report import report
    from ucseg.cli.run import run
    from ucseg.cli.serve import serve
    from ucseg.cli.train import train

__version__ = "0.1.0"

# In the order in which one uses them.
__all__ = [  # noqa: RUF022
    "init", "datasets", "download", "import_", "check", "plan", "prepare", "pretrain", "train", "export", "predict",
    "evaluate", "label_next", "add_masks", "serve", "report", "compare", "run", "demo",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ucseg' has no attribute '{name}'")
    # The module and its function share a name (ucseg.cli.train.train), so the function is asked of the module and is
    # kept here only: in `ucseg.cli` that name stays the module's.
    from ucseg.cli.calls import as_python_call

    verb = as_python_call(getattr(import_module(f"ucseg.cli.{name}"), name))
    globals()[name] = verb
    return verb


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
