"""The convergence benchmark in its smallest form: real trainings through the real server, a table and a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, server_binary


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AUTOLRS_BIN": str(server_binary()),
        "PYTHONPATH": str(ROOT / "tests/bench"),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "convergence", "--rows", "rows.jsonl", "--quick", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("convergence")
    run(directory)
    return directory


def rows(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "rows.jsonl").read_text().splitlines()]


def test_every_policy_trains_for_the_same_steps(directory: Path) -> None:
    finals = [row for row in rows(directory) if row["final"]]
    assert sorted(str(row["policy"]) for row in finals) == ["constant", "cosine", "scan"]
    assert {row["steps"] for row in finals} == {750}
    for row in finals:
        assert isinstance(row["test"], float) and row["test"] < 30, "of ten classes"
        assert isinstance(row["commit"], str) and row["commit"]
    (scan,) = [row for row in finals if row["policy"] == "scan"]
    assert isinstance(scan["overhead"], float) and 0 < scan["overhead"] <= 0.1


def test_lrs_are_tuned_on_the_validation_loss(directory: Path) -> None:
    for policy in ("constant", "cosine"):
        tried = [row for row in rows(directory) if row["policy"] == policy and not row["final"]]
        (final,) = [row for row in rows(directory) if row["policy"] == policy and row["final"]]
        losses = {row["lr"]: row["validation_loss"] for row in tried if row["validation_loss"] is not None}
        assert len(tried) == 3 and final["lr"] == min(losses, key=losses.__getitem__)
        assert all("test" not in row for row in tried), "nothing is chosen on the test part"


def test_what_has_been_run_is_not_run_again(directory: Path) -> None:
    before = (directory / "rows.jsonl").read_text()
    again = run(directory)
    assert again.stderr == "" and (directory / "rows.jsonl").read_text() == before
    assert again.stdout == run(directory, "--table").stdout
    for policy in ("constant", "cosine", "scan"):
        assert f"| {policy} | " in again.stdout
    picture = directory / "target/bench/convergence/perceptron-750.png"
    assert f"picture: {picture.relative_to(directory)}" in again.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
