"""`train --init`: what fits of a file or a run is loaded and reported, and the run knows what it started from."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ucseg
from refusals import refused
from ucseg.errors import Interrupted
from ucseg.methods import build_method
from ucseg.methods.supervised import Supervised
from ucseg.methods.uc_seg import UCSeg, UCSegConfig
from ucseg.planning.plan import read_plan
from ucseg.training.checkpoint import restore_weights
from ucseg.training.run_folder import RunFolder
from ucseg.training.settings import GOING_ON
from ucseg.training.start import Start, find_start, start_from
from ucseg.types import Problem

SMALL = [
    "plan.size=[32, 32]", "plan.patch=[32, 32]", "plan.token=[8, 8]", "plan.labelled_batch=2",
    "plan.unlabelled_batch=2", "plan.strides=[2, 2]",
]  # fmt: skip


def train(scans: Path, out: Path, **words: Any) -> Any:
    words = {"method": "supervised", "steps": 1, "workers": 0, "device": "cpu", "set": SMALL} | words
    return ucseg.train(scans, out, **words)


@pytest.fixture(scope="module")
def earlier(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    out = tmp_path_factory.mktemp("earlier") / "run"
    train(scans, out)
    return out


def first_weights(run: Path, name: str) -> torch.Tensor:
    return load_file(run / "last.safetensors")[name]


def test_a_run_goes_on_from_an_earlier_one(
    scans: Path, tmp_path: Path, earlier: Path, said: list[tuple[str, str]]
) -> None:
    """With a learning rate of next to nothing, the new weights are the old ones."""
    train(scans, tmp_path / "run", init=str(earlier), seed=5, set=[*SMALL, "lr=1e-12"])
    before, after = load_file(earlier / "last.safetensors"), load_file(tmp_path / "run" / "last.safetensors")
    parameters = [name for name in before if "running" not in name and "tracked" not in name]
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in parameters)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["init"] == {"file": str(earlier / "last.safetensors"), "digest": find_start(earlier).digest}
    assert config["train"]["init"] == str(earlier)
    (text,) = [text for kind, text in said if kind == "started-from"]
    assert str(earlier) in text and f"{len(before)} of {len(before)} tensors" in text


def settings_of(run: Path) -> dict[str, Any]:
    config = json.loads((run / "config.json").read_text())
    return {**config["train"], **config["method"]["config"]}


def test_a_run_of_the_same_method_goes_on_without_the_schedule_for_random_weights(
    scans: Path, tmp_path: Path, earlier: Path, said: list[tuple[str, str]]
) -> None:
    train(scans, tmp_path / "two", method="uc_seg")
    train(scans, tmp_path / "on", method="uc_seg", init=tmp_path / "two")
    (text,) = [text for kind, text in said if kind == "goes-on"]
    fresh, on = settings_of(tmp_path / "two"), settings_of(tmp_path / "on")
    wanted = {**GOING_ON, **UCSeg.going_on}
    assert {key for key in on if on[key] != fresh[key]} == {"init", *wanted}
    assert {key: on[key] for key in wanted} == wanted
    assert all(f"{key}={value:g}" in text for key, value in wanted.items())
    given = [*SMALL, "lr=0.02", "small_first=0.5", "method.unlabelled_start=0.3"]
    train(scans, tmp_path / "given", method="uc_seg", init=tmp_path / "two", set=given)
    kept = settings_of(tmp_path / "given")
    assert (kept["lr"], kept["small_first"], kept["unlabelled_start"], kept["mixing_start"]) == (0.02, 0.5, 0.3, 0.0)
    alike = [*SMALL, "method.subnets=[unet,unet_thin]"]
    train(scans, tmp_path / "other", method="uc_seg", init=earlier, set=alike)  # of another method: from the start
    assert {key for key, value in settings_of(tmp_path / "other").items() if value != fresh[key]} == {"init", "subnets"}


def test_a_run_goes_on_with_its_own_networks_whatever_the_default_is(
    scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    old = [*SMALL, "method.subnets=[unet,unet_strided]", "method.fusion_widths=[4]"]
    train(scans, tmp_path / "old", method="uc_seg", set=old)
    train(scans, tmp_path / "on", method="uc_seg", init=tmp_path / "old")
    kept = settings_of(tmp_path / "on")
    assert (kept["subnets"], kept["fusion_widths"], kept["unlabelled_start"]) == (["unet", "unet_strided"], [4], 0.0)
    (text,) = [text for kind, text in said if kind == "goes-on"]
    assert 'method.subnets=["unet","unet_strided"], method.fusion_widths=[4]' in text
    other = [*SMALL, "method.subnets=[unet_strided,unet_thin]"]
    train(scans, tmp_path / "other", method="uc_seg", init=tmp_path / "old", set=other)
    assert settings_of(tmp_path / "other")["unlabelled_start"] == UCSegConfig().unlabelled_start


def test_a_run_goes_on_with_its_own_encoder_whatever_the_plan_has(
    scans: Path, tmp_path: Path, said: list[tuple[str, str]]
) -> None:
    """The plan of the data set has none."""
    train(scans, tmp_path / "old", set=[*SMALL, "plan.encoder=effnet_lite0:random"])
    train(scans, tmp_path / "on", init=tmp_path / "old")
    assert [text for kind, text in said if kind == "goes-on-encoder"] == [
        f"Plan: encoder = effnet_lite0:random, as in {tmp_path / 'old'}; --set plan.encoder changes it."
    ]
    train(scans, tmp_path / "given", init=tmp_path / "old", set=[*SMALL, "plan.encoder=effnet_lite0"])
    found = [read_plan(tmp_path / name / "plan.yaml").encoder for name in ("on", "given")]
    assert found == ["effnet_lite0:random", "effnet_lite0"]
    assert (settings_of(tmp_path / "old")["optimizer"], settings_of(tmp_path / "old")["lr"]) == ("adamw", 0.001)


def test_whole_numbers_do_not_become_weights(tmp_path: Path, earlier: Path) -> None:
    rounded = {k: v.round().to(torch.int32) for k, v in load_file(earlier / "last.safetensors").items()}
    save_file(rounded, tmp_path / "whole.safetensors")
    method = build_method("supervised", {}, read_plan(earlier / "plan.yaml").problem)
    with refused("init-numbers", naming=["whole.safetensors", "networks.unet"]):
        start_from(method, find_start(tmp_path / "whole.safetensors"))
    with refused("weights-misfit", naming="networks.unet"):
        restore_weights(method, rounded, tmp_path / "last.safetensors")


def test_with_other_classes_all_but_the_head_is_loaded(earlier: Path) -> None:
    problem = read_plan(earlier / "plan.yaml").problem
    method = build_method("supervised", {}, type(problem)(**(vars(problem) | {"classes": 4})))
    fit = start_from(method, find_start(earlier))
    assert fit.missing == ["networks.unet.decoder.head.weight", "networks.unet.decoder.head.bias"]
    name = "networks.unet.encoder.0.layers.0.weight"
    assert torch.equal(method.state_dict()[name], first_weights(earlier, name))


def test_a_run_of_another_method_goes_to_every_network_of_its_kind(earlier: Path) -> None:
    problem = read_plan(earlier / "plan.yaml").problem
    old = first_weights(earlier, "networks.unet.encoder.0.layers.0.weight")
    teacher = build_method("mean_teacher", {}, problem)
    assert start_from(teacher, find_start(earlier)).missing == []
    with refused("init-nothing-fits", naming="are for (unet, plan.encoder=null), e.g."):
        start_from(build_method("uc_seg", {}, problem), find_start(earlier))
    two = build_method("uc_seg", {"subnets": ("unet", "unet_thin")}, problem)
    start_from(two, find_start(earlier))
    for method, name in ((teacher, "student"), (teacher, "teacher"), (two, "subnets.0")):
        assert torch.equal(method.state_dict()[f"{name}.encoder.0.layers.0.weight"], old)


def test_a_run_fits_by_its_full_names_and_a_file_of_one_network_everywhere(tmp_path: Path, earlier: Path) -> None:
    """Of two networks a run with one of them leaves the other as it is; a file is for both."""
    problem = read_plan(earlier / "plan.yaml").problem
    save_file({k.removeprefix("networks."): v for k, v in load_file(earlier / "last.safetensors").items()},
              tmp_path / "unet.safetensors")  # fmt: skip
    for path, loaded in ((earlier, ["unet"]), (tmp_path / "unet.safetensors", ["unet", "unet_2"])):
        fit = start_from(build_method("cps", {}, problem), find_start(path))
        assert list(dict.fromkeys(name.split(".")[1] for name in fit.taken)) == loaded


def test_a_resumed_run_keeps_its_start_and_needs_it_no_more(
    scans: Path, tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "start.safetensors"
    file.write_bytes((earlier / "last.safetensors").read_bytes())
    whole = train(scans, tmp_path / "whole", init=file, steps=2)
    with monkeypatch.context() as patch:
        step = Supervised.step

        def stopping(self: Supervised, batch: Any, progress: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return step(self, batch, progress)

        patch.setattr(Supervised, "step", stopping)
        with pytest.raises(Interrupted):
            train(scans, tmp_path / "run", init=file, steps=2)
    other = tmp_path / "other.safetensors"
    save_file({name: value + 1 for name, value in load_file(file).items()}, other)
    with refused("resume-setting", naming=["'init.digest'", find_start(file).digest]):
        ucseg.train(scans, tmp_path / "run", resume=True, init=other)
    moved = file.rename(tmp_path / "moved.safetensors")
    ucseg.train(scans, tmp_path / "run", resume=True)  # without the file
    assert RunFolder(tmp_path / "run").config["init"] == {**RunFolder(whole.run).config["init"]}
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    ucseg.train(scans, tmp_path / "run", resume=True, init=moved)  # the same content at another place


def test_what_is_no_start_is_refused_before_anything_is_made(scans: Path, tmp_path: Path) -> None:
    for words, names in (
        ({"init": tmp_path / "none"}, ["init-not-there", tmp_path / "none"]),
        ({"init": tmp_path}, ["init-no-run", tmp_path]),
    ):
        with refused(str(names[0]), naming=names[1]):
            train(scans, tmp_path / "run", **words)
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pth")
    with refused("init-nothing-fits", naming=[tmp_path / "w.pth", "(the file has w;", "networks.unet."]):
        train(scans, tmp_path / "run", init=tmp_path / "w.pth")
    assert not (tmp_path / "run").exists()


def uc_seg(dims: int) -> Any:
    return build_method(
        "uc_seg", {"levels": [3]}, Problem(dims, 1, 2, (16,) * dims, (8,) * dims, strides=((2,) * dims,) * 2)
    )


def test_norms_alone_make_no_start(tmp_path: Path) -> None:
    """Scales and shifts of a 2D network have the shapes of a 3D one's."""
    save_file(uc_seg(2).state_dict(), tmp_path / "flat.safetensors")
    for by_names in (True, False):
        start = Start(tmp_path, tmp_path / "flat.safetensors", by_names, "")
        with refused("init-nothing-fits", naming=tmp_path):
            start_from(uc_seg(3), start)


def test_memories_start_empty(tmp_path: Path) -> None:
    earlier, method = uc_seg(2), uc_seg(2)
    for name, value in earlier.state_dict().items():
        if name.startswith("memories"):
            value.fill_(1)
    save_file(earlier.state_dict(), tmp_path / "last.safetensors")
    fit = start_from(method, Start(tmp_path, tmp_path / "last.safetensors", True, ""))
    assert not fit.missing
    expected = earlier.state_dict()
    for name, value in method.state_dict().items():
        if name.startswith("memories"):
            assert not value.any()
        else:
            assert torch.equal(value, expected[name])


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = uc_seg(2).state_dict()
    weights["subnets.0.head.bias"][0] = torch.nan
    save_file(weights, tmp_path / "w.safetensors")
    with refused("init-not-finite", naming=[tmp_path / "w.safetensors", "subnets.0.head.bias"]):
        start_from(uc_seg(2), Start(tmp_path, tmp_path / "w.safetensors", True, ""))


def test_what_a_network_knows_decides_the_optimiser_not_the_plan(scans: Path, tmp_path: Path) -> None:
    """The plan of the data set has no encoder."""
    for name, settings in {
        "named": ["method.networks=[effnet_lite0]"],
        "none": ["plan.encoder=effnet_lite0", "method.networks=[vnet]"],
        "rate": ["plan.encoder=effnet_lite0", "lr=0.02"],
    }.items():
        train(scans, tmp_path / name, set=[*SMALL, *settings])
    found = [
        (settings_of(tmp_path / name)["optimizer"], settings_of(tmp_path / name)["lr"])
        for name in ("named", "none", "rate")
    ]
    assert found == [("adamw", 0.001), ("sgd", 0.03), ("sgd", 0.02)]
