"""The frameworks that are tested are the pinned ones, not what the machine happens to have."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import torch


def test_the_pinned_versions_are_installed() -> None:
    lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    assert "torch" in pinned
    assert {name: version(name) for name in pinned} == pinned
    assert torch.__file__.startswith(sys.prefix), "not the system's"
