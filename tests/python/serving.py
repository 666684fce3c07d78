"""The real server, started per test on an empty store; shared by all test directories."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def server_binary() -> Path:
    """`AUTOLRS_BIN`, else what cargo built last."""
    named = os.environ.get("AUTOLRS_BIN")
    if named:
        return (ROOT / named).resolve()
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    built = [path for path in (target / "debug/autolrs", target / "release/autolrs") if path.exists()]
    if not built:
        pytest.exit("the server is not built: cargo build -p autolrs-server", returncode=2)
    return max(built, key=lambda path: path.stat().st_mtime)


class Server:
    """`autolrs serve` on one store and one port, which can be killed, frozen and started again."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._store = directory / "store"
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: object) -> None:
        command = [str(server_binary()), "serve", "--listen", self.address, "--http-listen", "off"]
        command += ["--data-dir", str(self._store), *map(str, flags)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"the server did not start:\n{self.log()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=30)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def killed_in(phase: str, command: list[str], ready: Callable[[], bool] = lambda: True, **options: Any) -> list[str]:
    """Starts a trainer that prints a line "step phase" at each step, and kills it (kill -9) at the first step in
    `phase` at which it is `ready`; the words of that line. The options are `Popen`'s."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout is not None
        lines = (line.split() for line in process.stdout)
        try:
            found = next((words for words in lines if words[1:2] == [phase] and ready()), None)
        finally:
            process.kill()
    assert found is not None, f"the trainer ended without a step in the phase {phase}"
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    running.kill()
    print(running.log()[-4000:])
