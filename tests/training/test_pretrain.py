"""`ucseg pretrain`: networks learn from images alone, and training starts where they end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import ucseg
from refusals import refused
from ucseg.batches.prepare import PreparedCase
from ucseg.batches.stream import ImageStream, Stream
from ucseg.cli.main import main
from ucseg.errors import Interrupted
from ucseg.inference.step_cost import ThisMachine
from ucseg.methods import METHODS, build_method
from ucseg.planning.budget import Cost
from ucseg.planning.plan import Plan
from ucseg.training.checkpoint import load_method
from ucseg.training.masked_images import MaskedImages, MaskedImagesConfig
from ucseg.training.run_folder import RunFolder
from ucseg.training.start import find_start, start_from
from ucseg.types import Batch, Problem, Progress

SMALL = [
    "plan.size=[32, 32]", "plan.patch=[32, 32]", "plan.token=[8, 8]", "plan.labelled_batch=2",
    "plan.unlabelled_batch=2", "plan.strides=[2, 2]", "log_every=1",
]  # fmt: skip


def pretrain(scans: Path, out: Path, **words: Any) -> Any:
    words = {"steps": 2, "workers": 0, "device": "cpu", "set": [*SMALL, "method.networks=[unet]"]} | words
    return ucseg.pretrain(scans, out, **words)


def images(shape: tuple[int, ...], batch: int = 3) -> Batch:
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    return Batch(x[:0], x[:0, 0].long(), {"image": x})


def test_the_default_networks_are_those_of_the_default_method() -> None:
    default = METHODS["uc_seg"].Config.model_validate({})
    assert MaskedImagesConfig.model_validate({}).networks == default.subnets  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", [(2, 32, 40), (1, 16, 32, 24)])
def test_the_same_share_of_blocks_is_hidden_in_each_image_elsewhere(shape: tuple[int, ...]) -> None:
    channels, *patch = shape
    problem = Problem(len(patch), channels, 3, tuple(patch), (8,) * len(patch))
    method = MaskedImages(MaskedImagesConfig(networks=("unet",), block=8, hidden=0.5), problem)
    image = images(shape).unlabelled["image"]
    hidden = method.hide(image, Progress(3, 10))
    assert hidden.shape == (3, 1, *patch)
    blocks = hidden[:, 0]
    for axis, size in enumerate(patch, start=1):
        edge = min(8, size // 4)
        assert torch.equal(blocks, blocks.index_select(axis, torch.arange(size) // edge * edge))  # whole blocks
    counts = hidden.flatten(1).sum(1)
    assert counts[0] == hidden[0].numel() // 2 and len(set(counts.tolist())) == 1
    assert not torch.equal(hidden[0], hidden[1])
    assert torch.equal(hidden, method.hide(image, Progress(3, 10)))
    assert not torch.equal(hidden, method.hide(image, Progress(4, 10)))


def test_the_error_is_one_of_a_network_that_knows_nothing_and_does_not_see_hidden_voxels() -> None:
    problem = Problem(2, 1, 2, (32, 32), (8, 8))
    method = MaskedImages(MaskedImagesConfig(networks=("unet",)), problem)
    batch, seen = images((1, 32, 32)), []

    def blank(image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(image)
        return {"unet": torch.zeros_like(image)}

    method.logits = blank  # type: ignore[method-assign]
    (term,) = method.step(batch, Progress(0, 10)).terms.values()
    assert float(term) == pytest.approx(1.0, abs=0.1)
    hidden, image = method.hide(batch.unlabelled["image"], Progress(0, 10)), batch.unlabelled["image"]
    assert torch.equal(seen[0][~hidden], image[~hidden])
    assert torch.allclose(seen[0][hidden].reshape(3, -1), image.mean((1, 2, 3))[:, None])


def test_images_come_without_masks(tmp_path: Path) -> None:
    """All cases are drawn from, as many patches as both halves have, and no file of a mask is opened."""
    import numpy as np

    cases = []
    for number in range(5):
        np.save(tmp_path / f"{number}.npy", np.full((1, 16, 16), number, np.float16))
        label = tmp_path / "there-is-no-such-mask.npy"
        cases.append(PreparedCase(f"c{number}", "s", tmp_path / f"{number}.npy", label, (16, 16)))
    plan = Plan.model_validate(
        {
            "dims": 2, "unit": "px", "spacing": 1, "size": 16, "patch": 16, "token": 8, "labelled_batch": 1,
            "unlabelled_batch": 2, "channels": 1, "classes": {0: "background", 1: "organ"}, "normalisation": "unit",
        }
    )  # fmt: skip
    batches = [ImageStream(cases, plan, 0, {"image": "weak"}).batch(step) for step in range(5)]
    assert all(batch.labelled.shape == (0, 1, 16, 16) and batch.label.shape == (0, 16, 16) for batch in batches)
    assert all(batch.unlabelled["image"].shape == (3, 1, 16, 16) for batch in batches)
    seen = [name for batch in batches for name in batch.unlabelled_cases]
    assert sorted(seen) == sorted(3 * [case.case for case in cases])  # three epochs
    assert isinstance(ImageStream(cases, plan, 0, {"image": "weak"}), Stream)


@pytest.mark.parametrize("dims", [2, 3])
def test_networks_learn_to_fill_in(dims: int) -> None:
    torch.manual_seed(0)
    problem = Problem(dims, 1, 2, (16,) * dims, (8,) * dims, strides=((2,) * dims,))
    method = MaskedImages(MaskedImagesConfig(hidden=0.3), problem)
    grid = torch.meshgrid(*(torch.arange(16.0) for _ in range(dims)), indexing="ij")
    wave = torch.stack([torch.sin(sum(grid) / 3 + shift) for shift in range(2)])[:, None]
    batch = Batch(wave[:0], wave[:0, 0].long(), {"image": wave})
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for step in range(30):
        output = method.step(batch, Progress(step, 30))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    terms = {name: float(value.detach()) for name, value in output.terms.items()}
    assert terms.keys() == {"reconstruction_unet_strided", "reconstruction_unet_light"}
    assert max(terms.values()) < 0.75


def test_all_but_the_heads_goes_to_every_network_of_its_kind(scans: Path, tmp_path: Path, said: list[Any]) -> None:
    pretrain(scans, tmp_path / "pre", set=SMALL)
    names = {path.name for path in (tmp_path / "pre").iterdir()}
    assert {"weights.safetensors", "config.json", "plan.yaml", "metrics.jsonl", "state.safetensors"} <= names
    config = json.loads((tmp_path / "pre/config.json").read_text())
    assert config["cases"]["images"] == [f"scan{number}" for number in range(8)]  # of training, with a mask or without
    learned = load_file(tmp_path / "pre/weights.safetensors")
    problem = RunFolder(tmp_path / "pre")
    assert {name.split(".")[0] for name in learned} == {"unet_strided", "unet_light"}
    method = build_method(
        "uc_seg", {}, Problem(2, 1, 2, (32, 32), (8, 8), strides=((2, 2),) * 2, width=8, norm="instance")
    )
    fit = start_from(method, find_start(problem.path))
    new = {name for name in fit.missing if name.startswith("subnets")}
    assert new == {
        "subnets.0.head.weight", "subnets.0.head.bias", "subnets.1.decoder.head.weight", "subnets.1.decoder.head.bias"
    }  # fmt: skip
    ucseg.train(
        scans, tmp_path / "run", method="mean_teacher", init=tmp_path / "pre", steps=1, workers=0, device="cpu",
        set=[*SMALL[:-1], "method.network=unet_strided"],
    )  # fmt: skip
    assert "started-from" in [kind for kind, _ in said]
    with refused("run-of-pretraining", naming=[tmp_path / "pre", "--init"]):
        load_method(tmp_path / "pre")


def test_stopped_and_resumed_it_ends_with_the_same_weights(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(scans, tmp_path / "whole")
    step = MaskedImages.step
    with monkeypatch.context() as patch:

        def stopping(self: MaskedImages, batch: Any, progress: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return step(self, batch, progress)

        patch.setattr(MaskedImages, "step", stopping)
        with pytest.raises(Interrupted, match=f"ucseg pretrain .* --out {tmp_path / 'run'} --resume"):
            pretrain(scans, tmp_path / "run")
    with refused("init-unfinished", naming=tmp_path / "run"):
        find_start(tmp_path / "run")
    with refused("run-of-other-verb", naming=[tmp_path / "run", "ucseg pretrain"]):
        ucseg.train(scans, tmp_path / "run", resume=True)
    with refused("resume-setting", naming=["'method.config.hidden'", 0.75, 0.5]):
        ucseg.pretrain(scans, tmp_path / "run", resume=True, set=["method.hidden=0.5"])
    ucseg.pretrain(scans, tmp_path / "run", resume=True)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    (tmp_path / "run" / "weights.safetensors").unlink()  # killed between the last step and this file
    ucseg.pretrain(scans, tmp_path / "run", resume=True)
    again = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_masks_change_nothing(scans: Path, tmp_path: Path) -> None:
    """The same scans with other masks and another split of them into labelled and not: the same weights."""
    other = tmp_path / "dataset"
    other.mkdir()
    for name in ("dataset.yaml", "cases.csv", "plan.yaml"):
        (other / name).write_text((scans / name).read_text().replace("root: ..", f"root: {scans.parent}"))
    table = (other / "cases.csv").read_text().replace("scan0_mask.png", "").replace("scan1_mask.png", "scan3_mask.png")
    (other / "cases.csv").write_text(table)
    pretrain(scans, tmp_path / "one")
    pretrain(other, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_hours_become_steps_by_measuring_one(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[Any]
) -> None:
    asked: list[int] = []

    def cost(_self: ThisMachine, _problem: Problem, patches: int) -> Cost:
        asked.append(patches)
        return Cost(0.45, 2**20)

    monkeypatch.setattr(ThisMachine, "step", cost)
    monkeypatch.setattr("ucseg.training.trainer._Loop._fit_to", lambda *_: None)
    assert pretrain(scans, tmp_path / "run", steps=None, hours=3 / 3600).steps == 6
    assert asked == [4]
    assert "steps-chosen" in [kind for kind, _ in said]


def test_a_rate_that_changes_the_optimiser_is_reported(scans: Path, tmp_path: Path, said: list[Any]) -> None:
    encoder = "method.networks=['effnet_lite0:random']"
    pretrain(scans, tmp_path / "pre", steps=1, set=[*SMALL, encoder, "lr=0.01"])
    assert "SGD" in dict(said)["optimizer-follows"]


def test_on_the_command_line(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pre"
    words = [word for setting in SMALL for word in ("--set", setting)]
    main_words = ["pretrain", str(scans), "--out", str(out), "--steps", "1", "--workers", "0", "--device", "cpu"]
    with pytest.raises(SystemExit) as left:
        main([*main_words, *words, "--set", "method.networks=[unet,unet]"])
    assert left.value.code == 2
    assert not out.exists()
    assert "networks" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main([*main_words, *words])
    assert left.value.code == 0
    assert f"--init {out}" in capsys.readouterr().err
