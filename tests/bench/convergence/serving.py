"""The real server, for one benchmark."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT = Path("target/bench/convergence")


@contextmanager
def server() -> Iterator[str]:
    """The real server on an empty store; its log is beside the pictures."""
    binary = os.environ.get("AUTOLRS_BIN", "target/release/autolrs")
    OUT.mkdir(parents=True, exist_ok=True)
    store = tempfile.mkdtemp(prefix="store-", dir=OUT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [binary, "serve", "--listen", address, "--http-listen", "off", "--data-dir", store]
    with (OUT / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(store)
