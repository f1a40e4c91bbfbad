"""What is exported answers as torch does, needs no torch, and is refused where it was changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from threshold_run import Threshold, make_run, plan_2d, plan_3d

import ucseg
from refusals import refused
from ucseg.inference import exported, runtimes
from ucseg.inference.export import export_run, write_graph
from ucseg.inference.exported import ExportedPredictor, checksum
from ucseg.inference.predictor import Predictor, stacked
from ucseg.inference.runtimes import Session, open_session
from ucseg.methods import METHODS, build_method
from ucseg.methods.base import Method
from ucseg.planning.plan import Plan, write_plan
from ucseg.scans.scan import Geometry, Scan
from ucseg.training.checkpoint import save_weights
from ucseg.training.run_folder import RunFolder
from ucseg.types import Prediction

pytest.importorskip("onnx", reason="needs ucseg[onnx] or ucseg[openvino]")
THREE = {0: "background", 1: "liver", 2: "lesion"}
ALIKE = 0.9999
WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from ucseg.cli.main import main
main()
"""


def small_plan(dims: int, **changes: Any) -> Plan:
    values = {"width": 8, "strides": ((2,) * dims,) * 2, "classes": THREE, "channels": 2, "norm": "instance"}
    return (plan_2d if dims == 2 else plan_3d)(**(values | changes))


def require_alike(method: Method, plan: Plan, session: Session, any_size: bool) -> None:
    """As torch, for several images at once, and for windows of odd sizes."""
    rng = np.random.default_rng(0)
    for count, more in ((3, 0), (1, 1))[: 2 if any_size else 1]:
        size = tuple(edge + more * (1 + axis) for axis, edge in enumerate(plan.patch))
        image = rng.normal(size=(count, plan.channels, *size)).astype(np.float32)
        with torch.no_grad():
            expected = stacked(method.eval().predict(torch.from_numpy(image))).numpy()
        found = np.concatenate(session(image), axis=1)
        classes = len(plan.classes)
        same = found[:, :classes].argmax(axis=1) == expected[:, :classes].argmax(axis=1)
        assert same.mean() >= ALIKE
        np.testing.assert_allclose(found, expected, atol=1e-3)


# In 3D one of each shape that methods have: a network, decoders, networks side by side, a head that fuses them.
@pytest.mark.parametrize(
    ("name", "dims"), [*((name, 2) for name in METHODS), *((name, 3) for name in ("bcp", "mc_net", "cps", "uc_seg"))]
)
def test_every_method_answers_as_before(name: str, dims: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    plan, graph = small_plan(dims), tmp_path / "model.onnx"
    settings = {"networks": ("unet", "unet_strided")} if name == "cross_teaching" else {}
    method = build_method(name, settings, plan.problem).eval()
    _, any_size = write_graph(method, plan, graph, "it")
    assert any_size
    require_alike(method, plan, runtimes.onnxruntime_session(graph), any_size)


@pytest.mark.parametrize(
    ("network", "dims"), [("vnet_norm", 2), ("vnet", 3), ("swin_unet", 2), ("swin_unet", 3), ("resenc", 2)]
)
def test_every_other_network_answers_as_before(network: str, dims: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plan, graph = small_plan(dims), tmp_path / "model.onnx"
    method = build_method("mean_teacher", {"network": network}, plan.problem).eval()
    _, any_size = write_graph(method, plan, graph, "it")
    # The last level of the transformer is one window here, and larger images have several.
    assert any_size == ((network, dims) != ("swin_unet", 3))
    require_alike(method, plan, open_session(graph, "fp32", (1, 2, *plan.patch))[0], any_size)


def a_run(folder: Path, plan: Plan, name: str = "uc_seg") -> Path:
    torch.manual_seed(0)
    method = build_method(name, {}, plan.problem)
    run = RunFolder(folder)
    settings = {"name": name, "config": method.config.model_dump()}
    config = {"dataset": "DATA", "method": settings, "problem": asdict(plan.problem)}
    run.begin(config, lambda path: write_plan(plan, path))
    save_weights(run, "last", method.state_dict(), {"step": 1, "of": 1})
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two colour photographs of odd sizes, larger and smaller than the patch."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, shape in (("a", (37, 21)), ("b", (9, 15))):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and the model made of it; exporting takes seconds."""
    folder = tmp_path_factory.mktemp("exported")
    ucseg.export(a_run(folder / "run", small_plan(2, channels=3)), out=folder / "model")
    return folder


@pytest.fixture
def model(exported_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage, beside a copy of its run."""
    shutil.copytree(exported_run, tmp_path, dirs_exist_ok=True)
    return tmp_path / "model"


def test_exported_models_are_not_combined(model: Path, scans: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for words in ([model, run, scans], [model, scans, model], [run, model, scans]):
        with refused("models-combined", naming=words[-2] if words[-1] == scans else model):
            ucseg.predict(words[0], words[1:], out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_an_exported_model_predicts_the_same_files_without_torch(model: Path, scans: Path, tmp_path: Path) -> None:
    wanted = ("--precision", "fp32", "--members", "--probabilities")
    made = {"run": tmp_path / "by_run", "model": tmp_path / "by_model"}
    ucseg.predict(tmp_path / "run", [scans], out=made["run"], precision="fp32", members=True, probabilities=True)
    words = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "predict",
        str(model),
        str(scans),
        "--out",
        str(made["model"]),
        *wanted,
    ]
    subprocess.run(words, check=True, capture_output=True)
    files = {key: sorted(file.relative_to(folder) for file in folder.rglob("*.*")) for key, folder in made.items()}
    assert files["run"] == files["model"]
    for file in files["run"]:
        if file.suffix in (".png", ".tif"):
            one, other = (np.asarray(Image.open(folder / file), np.float32) for folder in made.values())
            np.testing.assert_allclose(other, one, atol=1e-3 if file.suffix == ".tif" else 0)
    abouts = [json.loads((folder / "prediction.json").read_text()) for folder in made.values()]
    assert abouts[0]["weights"] == abouts[1]["weights"]


def test_a_volume_is_predicted_as_before(tmp_path: Path) -> None:
    plan = small_plan(3, channels=1, spacing=(1.0, 1.5, 3.0))
    export_run(a_run(tmp_path / "run", plan), tmp_path / "model")
    array = np.random.default_rng(0).normal(size=(1, 30, 25, 18)).astype(np.float32)
    scan = Scan(array, Geometry(np.diag([-1.0, 1.2, 2.5, 1.0])), Path("scan.nii.gz"))
    by_run = Predictor.from_run(tmp_path / "run", device="cpu", precision="fp32").predict_scan(scan)
    by_model = ExportedPredictor(tmp_path / "model", precision="fp32").predict_scan(scan)
    assert (by_run.mask == by_model.mask).mean() >= ALIKE
    np.testing.assert_allclose(by_model.uncertainty, by_run.uncertainty, atol=1e-3)
    assert by_model.failure_score == pytest.approx(by_run.failure_score, abs=1e-3)
    assert by_run.members.keys() == by_model.members.keys()


def test_a_changed_model_is_refused(model: Path, scans: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "plan.yaml"):
        changed = tmp_path / f"changed_{name}"
        shutil.copytree(model, changed)
        with (changed / name).open("ab") as file:
            file.write(b"#")
        with refused("model-damaged", naming=[name]):
            ucseg.predict(changed, [scans], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_no_runtime_loads_is_refused(model: Path) -> None:
    """Its checksum is right: it was damaged before, or is of another make."""
    (model / "model.onnx").write_bytes((model / "model.onnx").read_bytes()[:200])
    record = json.loads((model / "model.json").read_text())
    record["checksums"]["model.onnx"] = checksum(model / "model.onnx")
    (model / "model.json").write_text(json.dumps(record))
    with refused("model-not-loaded", naming=["model.onnx"]):
        ExportedPredictor(model)


def test_a_model_too_large_for_memory_is_refused(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_session(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(exported, "open_session", open_session)
    with refused("memory-ran-out", naming=[model, "other programs"]):
        ucseg.predict(model, [scans], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_model_does_not_have_is_refused(model: Path, scans: Path, tmp_path: Path) -> None:
    with refused("model-checkpoint", naming=["last"]):
        ucseg.predict(model, [scans], out=tmp_path / "out", checkpoint="best")
    with refused("model-device", naming=["cuda"]):
        ucseg.predict(model, [scans], out=tmp_path / "out", device="cuda")
    with refused("export-out-exists", naming=["model"]):
        ucseg.export(tmp_path / "run", out=model)


def test_no_runtime_is_reported(model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_module", lambda _name: None)
    with refused("runtime-missing", naming=["ucseg[openvino]"]):
        ucseg.predict(model, [scans], out=tmp_path / "out")


class Unknown(Threshold):
    """Has a part that ONNX has no operator for."""

    def predict(self, image: torch.Tensor) -> Prediction:
        found = self._at(image, self.level)
        return Prediction(found, torch.linalg.qr(found)[0][:, :1] * 0 + 0.5)


def test_a_method_that_cannot_be_exported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", plan_2d(), monkeypatch)
    monkeypatch.setitem(METHODS, "threshold", Unknown)
    with refused("export-not-possible", naming=["threshold"]):
        ucseg.export(run, out=tmp_path / "model")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"]


def test_a_model_that_names_other_members_than_its_graph_predicts_nothing(
    model: Path, scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    record = json.loads((model / "model.json").read_text())
    record["members"].append("another")
    (model / "model.json").write_text(json.dumps(record))
    with refused("scans-failed"):
        ucseg.predict(model, [scans], out=tmp_path / "out")
    assert "model.json" in dict(said)["scan-failed"]
    assert not [*(tmp_path / "out").rglob("*.png")]
