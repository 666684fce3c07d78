"""What `schedule.step(loss)` costs off a directive's end: `make bench`.

Prints microseconds per call, the median of several rounds, for float and tensor losses, beside an empty call.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trainer

import autolrs.torch as autolrs

ROUNDS = 15
CALLS = 4000


def measure(call: Callable[[Any], Any], argument: Any) -> float:
    """Median microseconds of one call."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(CALLS):
            call(argument)
        rounds.append((time.perf_counter() - begun) / CALLS * 1e6)
    return statistics.median(rounds)


def open_schedule(address: str, job: str, **options: Any) -> autolrs.Schedule:
    model, optimizer = trainer.make()
    return autolrs.Schedule(
        optimizer, model, 65_536, server=address, job=job, policy="constant", guard=False, **options
    )


def main() -> None:
    torch.set_num_threads(1)
    binary = os.environ.get("AUTOLRS_BIN", "target/release/autolrs")
    with tempfile.TemporaryDirectory() as directory:
        address = f"127.0.0.1:{23_000 + os.getpid() % 20_000}"
        command = [binary, "serve", "--listen", address, "--http-listen", "off"]
        command += ["--data-dir", str(Path(directory) / "store")]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            rows = [("an empty Python call", measure(lambda loss: None, 1.0))]
            host = open_schedule(address, "host", connect_timeout=30.0)
            host.steps([0])
            rows.append(("step(float)", measure(host.step, 1.0)))
            host = open_schedule(address, "host-tensor")
            rows.append(("step(tensor on the host)", measure(host.step, torch.tensor(1.0))))
            device = open_schedule(address, "device", device_losses=True)
            rows.append(("step(tensor), read in batches of 8", measure(device.step, torch.tensor(1.0))))
        finally:
            server.terminate()
            server.wait()
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}: microseconds per call")
    for name, microseconds in rows:
        print(f"  {name:36s} {microseconds:6.2f}")


if __name__ == "__main__":
    main()
