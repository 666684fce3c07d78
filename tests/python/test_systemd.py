"""The unit in deploy/systemd as systemd reads it; `tests/tests/lifecycle.rs` speaks the protocol of a manager."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import server_binary

UNIT = Path(__file__).resolve().parents[2] / "deploy/systemd/autolrs.service"
# Exposure as `systemd-analyze security` counts it, from 0 to 10.
EXPOSURE = 1.5
# A command that takes longer is broken.
DEADLINE = 60.0
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")


def on_paper(tmp_path: Path) -> Path:
    """The unit with a program that exists."""
    unit = tmp_path / "autolrs.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/autolrs", str(server_binary())))
    return unit


@needs_systemd
def test_the_unit_is_sound_and_confined(tmp_path: Path) -> None:
    verify = ["systemd-analyze", "verify", "--man=no", str(on_paper(tmp_path))]
    ran = subprocess.run(verify, capture_output=True, text=True, timeout=DEADLINE)
    about_us = [line for line in ran.stderr.splitlines() if "autolrs" in line]
    assert (ran.returncode, about_us) == (0, []), ran.stderr
    security = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", str(UNIT)]
    ran = subprocess.run(security, capture_output=True, text=True, timeout=DEADLINE)
    assert ran.returncode == 0, ran.stdout


def test_the_units_times_fit_the_servers() -> None:
    seconds = dict(re.findall(r"^(\w+Sec)=(\d+)s$", UNIT.read_text(), re.M))
    example = (UNIT.parents[1] / "config.example.toml").read_text()
    drain = re.search(r'^# drain = "(\d+)s"$', example, re.M)
    places = re.search(r"^# max_connections = (\d+)$", example, re.M)
    files = re.search(r"^LimitNOFILE=(\d+)$", UNIT.read_text(), re.M)
    assert drain and int(seconds["TimeoutStopSec"]) > int(drain[1])
    assert places and files and int(files[1]) > int(places[1]) + 128
