"""The server as the files in deploy/ start it: with arguments of their own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import ROOT, server_binary

# A start or an end that takes longer is broken.
DEADLINE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def health(binary: Path, port: int) -> subprocess.CompletedProcess[str]:
    command = [str(binary), "health", "--server", f"http://127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


@contextmanager
def running(command: list[str], port: int, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The server as a process, once `autolrs health` finds it well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTOLRS_")}
    log = cwd / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stderr=stderr, text=True)
    try:
        end = time.monotonic() + DEADLINE
        while health(Path(command[0]), port).returncode != 0:
            assert process.poll() is None, f"the server ended: {log.read_text()}"
            assert time.monotonic() < end, f"the server is not well: {log.read_text()}"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def example_settings() -> dict[str, str]:
    """Keys and defaults in deploy/config.example.toml."""
    example = (ROOT / "deploy/config.example.toml").read_text()
    return dict(re.findall(r"^# ([a-z_]+) = (.+)$", example, re.M))


def settings_known() -> dict[str, str]:
    """Keys and defaults of the server, as `autolrs serve --help` lists them."""
    command = [str(server_binary()), "serve", "--help"]
    usage = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE).stdout
    known = re.findall(r"\[env: AUTOLRS_([A-Z_]+)\]\s+\[default: ([^\]]*)\]", re.sub(r"\s+", " ", usage))
    return {key.lower(): value for key, value in known}
