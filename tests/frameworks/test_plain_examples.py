"""The examples for numpy, JAX and Keras run as they are, on the real server, and learn what they are to learn."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, Server

EXAMPLES = ROOT / "python-client/examples"


@pytest.mark.parametrize(
    ("example", "backend", "says"),
    [
        ("plain_numpy", "", "finished after 3000 steps"),
        ("jax_optax", "", "compilations of the step: 1"),
        ("keras_fit", "jax", "finished after 3000 steps"),
        ("keras_fit", "torch", "finished after 3000 steps"),
    ],
)
def test_an_example(server: Server, example: str, backend: str, says: str) -> None:
    environment = {**os.environ, "AUTOLRS_SERVER": server.address, "OMP_NUM_THREADS": "1"}
    if backend:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, str(EXAMPLES / f"{example}.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stdout.splitlines()[-1]
    accuracy = re.search(r"test accuracy (0\.\d+|1\.0+)", last)
    assert accuracy is not None and float(accuracy[1]) > 0.97
    assert says in last
