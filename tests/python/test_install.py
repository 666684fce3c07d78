"""The wheel installs into an empty environment, needs numpy alone, and imports without PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CODE = """
import sys, autolrs
assert autolrs.__version__
assert issubclass(autolrs.JobFinished, autolrs.Error)
assert sorted(autolrs.__all__) == sorted(set(autolrs.__all__))
assert "torch" not in sys.modules and "grpc" not in sys.modules
"""


@pytest.mark.timeout(600)
def test_installs_into_an_empty_environment(tmp_path: Path) -> None:
    maturin = Path(sys.executable).with_name("maturin")
    if not maturin.exists():
        pytest.skip("maturin is not in this environment")
    build = [str(maturin), "build", "--release", "--quiet", "-o", str(tmp_path), "-m", "python-client/Cargo.toml"]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-abi3-" in wheel.name
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty/bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    subprocess.run([str(python), "-c", CODE], check=True, cwd=tmp_path)
    installed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout
    assert {line.split("==")[0].lower() for line in installed.splitlines()} <= {"autolrs", "numpy", "pip", "setuptools"}
