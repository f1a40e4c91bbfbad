"""What a run says of the code that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ucseg.training.environment import commit_of


def git(checkout: Path, *words: str) -> str:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    return subprocess.run(["git", "-C", checkout, *who, *words], check=True, capture_output=True, text=True).stdout


def test_a_commit_is_dirty_where_the_package_was_changed_and_not_where_results_were_collected(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None, "no checkout"
    git(tmp_path, "init")
    package, results = tmp_path / "src" / "a.py", tmp_path / "results.json"
    package.parent.mkdir()
    for file in (package, results):
        file.write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    results.write_text("2\n")
    (tmp_path / "more.json").write_text("3\n")
    assert commit_of(tmp_path) == commit
    seen = {commit}
    for file, text in (
        (package.parent / "own_method.py", "4\n"),
        (package.parent / "own_method.py", "5\n"),
        (package, "6\n"),
    ):
        file.write_text(text)
        now = commit_of(tmp_path)
        assert now is not None and now.startswith(f"{commit}-dirty.") and now == commit_of(tmp_path)
        seen.add(now)
    assert len(seen) == 4, "code that was changed again is told from what it was"
    package.write_text("1\n")
    (package.parent / "own_method.py").unlink()
    assert commit_of(tmp_path) == commit


def test_without_git_a_run_names_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert commit_of(tmp_path) is None
