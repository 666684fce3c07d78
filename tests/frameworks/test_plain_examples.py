"""The examples run as they are, on the real server, and learn what they are to learn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Server

EXAMPLES = ROOT / "python-client/examples"


def run(server: Server, directory: Path, example: str, *arguments: str, **settings: str) -> str:
    """What it prints; the images are the small ones, which are fetched by no one."""
    environment = {**os.environ, "AUTOLRS_SERVER": server.address, "OMP_NUM_THREADS": "1", **settings}
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("example", "backend", "says"),
    [
        ("plain_numpy", "", "finished after 3000 steps"),
        ("jax_optax", "", "compilations of the step: 1"),
        ("keras_fit", "jax", "finished after 3000 steps"),
        ("keras_fit", "torch", "finished after 3000 steps"),
    ],
)
def test_an_example(server: Server, tmp_path: Path, example: str, backend: str, says: str) -> None:
    last = run(server, tmp_path, example, **({"KERAS_BACKEND": backend} if backend else {})).splitlines()[-1]
    accuracy = re.search(r"test accuracy (0\.\d+|1\.0+)", last)
    assert accuracy is not None and float(accuracy[1]) > 0.97
    assert says in last


def test_lightning(server: Server, tmp_path: Path) -> None:
    """Shorter than it stands there; the logs are where it says."""
    said = run(server, tmp_path, "lightning_images", "800")
    accuracy = re.search(r"test accuracy (0\.\d+); logs in (\S+)$", said.rstrip())
    assert "800 steps, " in said and accuracy is not None and float(accuracy[1]) > 0.7
    assert "search/lr" in (tmp_path / accuracy[2] / "metrics.csv").read_text()


def test_transformers(server: Server, tmp_path: Path) -> None:
    """Bytes drawn evenly have 8 bits each; the frequencies of single bytes alone give about 4.7."""
    said = run(server, tmp_path, "transformers_text", "750")
    bits = re.search(r"bits per byte on other text: (\d+\.\d+)", said)
    assert "750 steps, " in said and bits is not None and float(bits[1]) < 4.0
