"""Fixtures of the tests on the newest frameworks; run by `make test-frameworks`."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The tests in tests/python share their server and their small training.
sys.path.insert(0, str(HERE.parent / "python"))

import torch  # noqa: E402
from serving import ROOT, Server, server, server_binary  # noqa: E402

__all__ = ["ROOT", "Server", "server", "server_binary"]

torch.set_num_threads(1)


def pytest_report_header() -> str:
    """What is tested: the frameworks that requirements.txt names, as they are installed."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    return "frameworks: " + ", ".join(f"{name} {_installed(name)}" for name in names)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(absent)"
