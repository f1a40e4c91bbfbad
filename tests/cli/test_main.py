"""The command line's edges: help is quick, mistakes are one sentence and exit code 2, interruption is 130."""

from __future__ import annotations

import errno
import io
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console

import ucseg
from refusals import refused
from ucseg.cli import main as entry
from ucseg.cli import terminal
from ucseg.cli.terminal import console, progress_bar
from ucseg.errors import Interrupted, UserError
from ucseg.machine.writing import whole_file


def stand_in(monkeypatch: pytest.MonkeyPatch, failure: BaseException | None = None) -> list[object]:
    """Put a small verb in the place of `check`; what it was called with is collected."""
    calls: list[object] = []

    def check(dataset: Annotated[str, typer.Argument(help="A data set.")], times: int = 1) -> NotImportedHere:  # type: ignore[name-defined] # noqa: F821
        """Look at it.

        Needs `ucseg[seeing]`, and a
        good light.

        Args:
            dataset: for Python callers.
        """
        calls.append((dataset, times))
        if failure:
            raise failure

    check.__annotations__["return"] = "NotImportedHere"  # as with `from __future__ import annotations`
    module = types.ModuleType("ucseg.cli.check")
    module.check = check  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ucseg.cli.check", module)
    return calls


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        entry.main(list(words))
    return int(stop.value.code or 0)


def test_words_reach_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch)
    assert run("check", "folder", "--times", "3") == 0
    assert calls == [("folder", 3)]


def test_bars_that_never_showed_leave_no_empty_line_before_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError), progress_bar() as bar:
        bar.add_task("reading", total=None, visible=False)
        raise UserError("nothing", "nothing there.")
    assert capsys.readouterr().err == ""
    with progress_bar() as bar:
        bar.add_task("reading", total=2, completed=2)
    assert "reading" in capsys.readouterr().err


def test_each_mistake_is_a_line_and_the_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, UserError.together([UserError("a", "a.nii: 4D."), UserError("b", "b.nii: cut.")]))
    assert run("check", "folder") == 2
    shown = capsys.readouterr()
    assert shown.err == "ucseg: a.nii: 4D.\nucseg: b.nii: cut.\n"
    assert shown.out == ""


def test_interruption_says_how_to_continue_and_exits_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, Interrupted("saved; use --resume."))
    assert run("check", "folder") == 130
    assert capsys.readouterr().err == "ucseg: saved; use --resume.\n"


def test_ctrl_c_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert run("check", "folder") == 130
    assert capsys.readouterr().err == "ucseg: stopped before the end; the same command starts it again.\n"


def test_ctrl_c_while_a_verb_is_loaded_is_the_same_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loading(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "import_module", loading)
    assert run("check", "folder") == 130
    assert "the same command" in capsys.readouterr().err


def test_the_system_refusing_a_file_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, PermissionError(13, "Permission denied", "/scans/run"))
    assert run("check", "folder") == 2
    assert capsys.readouterr().err == "ucseg: /scans/run: Permission denied.\n"


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "memory"),
    ],
)
def test_no_room_on_disk_or_in_memory_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: BaseException, named: str
) -> None:
    stand_in(monkeypatch, failure)
    assert run("check", "folder") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ucseg: ") and named in shown and shown.count("\n") == 1


def test_sigterm_clears_away_what_was_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stand_in(monkeypatch)

    def check(dataset: str) -> None:
        with whole_file(tmp_path / "mask.nii") as part:
            part.write_text("half")
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sys.modules["ucseg.cli.check"], "check", check)
    try:
        assert run("check", "folder") == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--method", ""], [""]])
def test_an_empty_value_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    calls = stand_in(monkeypatch)
    assert run("check", *words) == 2
    assert "is empty" in capsys.readouterr().err and not calls


def test_a_python_call_with_an_empty_path_is_refused(tmp_path: Path) -> None:
    with refused("argument-empty", naming="out"):
        ucseg.init(tmp_path, out="")
    with refused("argument-empty", naming="method"):
        ucseg.train(tmp_path, out=tmp_path / "run", method="")


def test_a_list_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with refused("list-empty", naming="--methods ,"):
        ucseg.compare(tmp_path, out=tmp_path / "out", labelled=["1"], methods=[","])


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        entry.main(["check", "folder"])


@pytest.mark.parametrize(
    ("words", "named"), [(["check"], "DATASET"), (["check", "x", "--tmes", "2"], "--tmes"), (["chekc"], "chekc")]
)
def test_wrong_usage_exits_2_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    stand_in(monkeypatch)
    assert run(*words) == 2
    assert named.lower() in capsys.readouterr().err.lower()


def test_help_of_a_verb_stops_before_the_words_for_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    assert run("check", "--help") == 0
    shown = capsys.readouterr().out
    assert "Look at it." in shown
    assert "for Python callers" not in shown


def test_help_of_a_verb_keeps_brackets_and_leaves_the_breaking_of_lines_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    assert run("check", "--help") == 0
    assert "Needs `ucseg[seeing]`, and a good light." in capsys.readouterr().out


HEAVY = (
    "torch",
    "lightning_fabric",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "skimage",
    "SimpleITK",
    "nibabel",
    "PIL",
)
HEAVY += ("pydicom", "h5py", "safetensors", "jinja2")


def loaded(program: str) -> tuple[set[str], str, int]:
    """Heavy modules that a program leaves loaded, what it printed, and how many modules it loaded in all."""
    program += f"\nimport sys\nprint(len(sys.modules), *(set({HEAVY}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *heavy = done.stderr.splitlines()[-1].split()
    return set(heavy), done.stdout, int(count)


def typed(verb: str) -> str:
    """`import` is a word of Python's own, and Python's names have no hyphens."""
    return verb.rstrip("_").replace("_", "-")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import ucseg")[0] == set()


def test_help_names_every_verb_and_loads_nothing_heavy() -> None:
    ask = "from ucseg.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    heavy, shown, modules = loaded(ask)
    assert heavy == set()
    assert modules < 500  # typer and rich are some 350: a third of a second on any machine of today
    for verb in ucseg.__all__:
        assert f" {typed(verb)} " in shown


def test_help_of_no_verb_loads_anything_heavy() -> None:
    verbs = [typed(verb) for verb in ucseg.__all__]
    ask = "from ucseg.cli.main import main\n"
    ask += f"for verb in {verbs}:\n    try: main([verb, '--help'])\n    except SystemExit: pass"
    assert loaded(ask)[0] == set()


def test_what_looks_at_data_does_without_torch() -> None:
    modules = (
        "folder.understanding",
        "dataset.splits",
        "soundness.check",
        "planning.choosing",
        "batches.prepare",
        "evaluation.evaluate",
    )
    heavy, *_ = loaded("import " + ", ".join(f"ucseg.{module}" for module in modules))
    assert not heavy & {"torch", "lightning_fabric", "matplotlib", "pandas"}


def test_a_dataset_that_is_not_there_is_said_before_torch_is_loaded() -> None:
    ask = "from ucseg.cli.main import main\ntry: main(['train', 'nowhere', '--out', 'run'])\n"
    heavy, *_ = loaded(ask + "except SystemExit as stop: assert stop.code == 2")
    assert not heavy & {"torch", "lightning_fabric"}


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ucseg.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ucseg {ucseg.__version__}\n"


@pytest.mark.parametrize("verb", ucseg.__all__)
def test_every_verb_is_one_python_call(verb: str) -> None:
    function = getattr(ucseg, verb)
    assert callable(function)
    assert function.__name__ == verb
    assert function.__doc__, f"{verb} has no help"
    assert function is getattr(ucseg, verb)
    assert verb in dir(ucseg)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        _ = ucseg.segment


def test_file_names_with_brackets_print_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/scans/" + "very-long-folder/" * 12 + "case[1].nii.gz"
    console.print(long)
    assert capsys.readouterr().err == long + "\n"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_time_left_is_whole_in_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=seen, width=width, force_terminal=True))
    with progress_bar(own_estimate=True) as bar:
        bar.add_task(f"[1] {'a long name ' * 10}", total=4000, completed=1200, left="about 1 h 20 min")
    assert "about 1 h 20 min left" in seen.getvalue()
    assert seen.getvalue().count("\n") == 1
    assert "[1] a" in seen.getvalue()


def test_progress_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        for _ in bar.track(range(4), description="case[1]"):
            pass
    shown = capsys.readouterr().err
    assert "case[1]" in shown
    assert "4/4 in 0:00:00" in shown and "gone" not in shown and "left" not in shown


def test_times_are_one_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seen = 0.0, io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=seen, width=120))
    with progress_bar() as bar:
        bar.get_time = lambda: now
        task = bar.add_task("predicting", total=4)
        for _ in range(3):
            now += 5.0
            bar.advance(task)
    assert "3/4 0:00:15 gone, 0:00:05 left" in seen.getvalue()


def test_images_are_prepared_without_the_libraries_of_volumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        image, mask = tmp_path / f"scans/{number}.png", tmp_path / f"scans/{number}_mask.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(image)
        Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), ((5, 26), (number, 31 - number)))).save(mask)
    said = f"import ucseg; ucseg.init({str(tmp_path / 'scans')!r}, out={str(tmp_path / 'data')!r}); "
    heavy, *_ = loaded(said + f"ucseg.prepare({str(tmp_path / 'data')!r})")
    assert len([*(tmp_path / "data" / "cache").rglob("*.image.npy")]) > 4
    # 80 MB, and as much again in every process that prepares cases.
    assert not heavy & {"SimpleITK", "nibabel", "pydicom", "h5py"}


def test_python_runs_the_package_as_the_command() -> None:
    words = [sys.executable, "-m", "ucseg", "--version"]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    assert found.stdout == f"ucseg {ucseg.__version__}\n"
