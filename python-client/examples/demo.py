"""The whole system on one machine: `make demo`.

Starts the server on an empty store, trains a small CNN on real images under several policies with the same budget,
the same seeds and the same order of batches, and prints what came out. Everything goes under target/demo.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import images
import torch
from torch import nn

import autolrs.torch as autolrs

OUT = Path("target/demo")
TOTAL_STEPS = 3000
BATCH_SIZE = 64
SEEDS = (0, 1)


@dataclass(frozen=True)
class Contestant:
    """One way to get a learning rate. `lr` is what the optimizer is made with."""

    name: str
    policy: str
    lr: float
    options: dict[str, Any] = field(default_factory=dict)
    lr_range: tuple[float, float] | None = None


# PyTorch's own default for SGD is 0.001; 0.01 is what many tutorials use. The published algorithm gets its authors'
# interval for SGD, which is narrower than the default (on the default one it breaks the network: a loss that falls
# back after a spike is forecast to fall on for ever), and its stages (1000 steps and more) are scaled to this budget.
CONTESTANTS = [
    Contestant("scan", "scan", 0.001),
    Contestant("paper", "paper", 0.001, {"tau": 500, "tau_max": 1000}, (0.001, 1.0)),
    Contestant("constant 0.001", "constant", 0.001),
    Contestant("constant 0.01", "constant", 0.01),
    Contestant("cosine 0.01", "cosine", 0.01),
]


@dataclass(frozen=True)
class Result:
    """What one training gave."""

    contestant: Contestant
    seed: int
    accuracy: float
    committed: int
    search: int
    lost: int
    words: str
    seconds: float


def main() -> None:
    """Runs the demo."""
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    data = images.load()
    print(f"== {data.name}, small CNN, SGD with momentum 0.9, batches of {BATCH_SIZE}, {TOTAL_STEPS} steps in all")
    with server() as address:
        jobs = [(contestant, seed) for seed in SEEDS for contestant in CONTESTANTS]
        workers = min(2, os.cpu_count() or 1)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            futures = [pool.submit(train, contestant, seed, address) for contestant, seed in jobs]
            results = [future.result() for future in as_completed(futures)]
    report(results)
    print(f"\nDone in {time.monotonic() - started:.0f} s. What to try next:")
    print(f"  look at {OUT / 'schedule.png'}: the search, the LR it chose, and the loss that followed")
    print("  .venv/bin/python python-client/examples/five_lines.py: the same in your own loop (start `autolrs serve`)")
    print("  autolrs jobs list, autolrs jobs show JOB: what the server keeps of every run")
    print("  kill -9 the server in the middle of a run and start it again: the schedule does not change")


def train(contestant: Contestant, seed: int, address: str) -> Result:
    """One training run, in a process of its own."""
    torch.set_num_threads(1)
    started = time.monotonic()
    data = images.load()
    model = images.small_cnn(data, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=contestant.lr, momentum=0.9)
    name = f"{contestant.name.replace(' ', '-')}-seed{seed}"
    with autolrs.Schedule(
        optimizer,
        model,
        TOTAL_STEPS,
        job=name,
        server=address,
        policy=contestant.policy,
        options=contestant.options,
        lr_range=contestant.lr_range,
        seed=seed,
    ) as schedule:
        for x, y in schedule.steps(lambda position: data.batches(position, BATCH_SIZE, seed)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step(loss)
            if schedule.total_step % 500 == 0:
                say_progress(name, schedule, loss.item())
        if contestant.policy == "scan" and seed == SEEDS[0]:
            schedule.plot(OUT / "schedule.png")
    kinds = [step.kind for step in schedule.history]
    return Result(
        contestant,
        seed,
        images.accuracy(model, data.test),
        kinds.count("committed"),
        kinds.count("search"),
        kinds.count("lost"),
        in_words(schedule.history),
        time.monotonic() - started,
    )


def say_progress(name: str, schedule: autolrs.Schedule, loss: float) -> None:
    """One line."""
    step = f"{schedule.total_step:5d}/{TOTAL_STEPS}"
    print(f"  {name:22s} {step}  {schedule.phase:9s} LR {schedule.lr:<9.3g} loss {loss:.3f}", flush=True)


def in_words(history: autolrs.History) -> str:
    """The schedule that the final weights were trained with: "0 -> 0.03 in 300, 0.03 for 1400, ..."."""
    kept = [step for step in history if step.kind == "committed"]
    parts = []
    for trend, run in groupby(range(len(kept)), key=lambda i: _trend(kept, i)):
        numbers = list(run)
        first, last = kept[numbers[0]].lr, kept[numbers[-1]].lr
        parts.append(f"{last:.2g} for {len(numbers)}" if trend == 0 else f"{first:.2g} -> {last:.2g} in {len(numbers)}")
    shown = parts if len(parts) <= 6 else [*parts[:5], f"... ({len(parts)} pieces)"]
    tried = sorted({step.seq for step in history if step.kind == "search"})
    return (f"{len(tried)} trials; " if tried else "") + ", ".join(shown)


def _trend(steps: list[autolrs.Step], i: int) -> int:
    """-1, 0 or 1: whether the LR falls, holds or rises around step `i`."""
    before = steps[max(i - 1, 0)].lr
    after = steps[min(i + 1, len(steps) - 1)].lr
    here = steps[i].lr
    if here in (before, after) and (i not in (0, len(steps) - 1) or before == after):
        return 0
    return 1 if after > before else -1


def report(results: list[Result]) -> None:
    """The table: the mean over the seeds, and each seed's accuracy."""
    columns = f"{'test accuracy':>13s}  {'by seed':15s} {'committed':>9s} {'search':>6s} {'lost':>4s} {'overhead':>8s}"
    print(f"\n{'':16s} {columns}")
    for contestant in CONTESTANTS:
        runs = sorted((r for r in results if r.contestant == contestant), key=lambda r: r.seed)
        mean = sum(run.accuracy for run in runs) / len(runs)
        each = " ".join(f"{run.accuracy:.4f}" for run in runs)
        first = runs[0]
        total = first.committed + first.search + first.lost
        print(
            f"{contestant.name:16s} {mean:13.4f}  {each:15s} {first.committed:9d} {first.search:6d} {first.lost:4d} "
            f"{100 * first.search / total:6.1f} %"
        )
    print("\nCommitted schedule (seed 0):")
    for contestant in CONTESTANTS:
        first = next(r for r in results if r.contestant == contestant and r.seed == SEEDS[0])
        print(f"  {contestant.name:16s} {first.words}")
    print(
        "\nThe same budget for all: a trial's steps are paid from it. An LR tuned by several full runs can be better."
    )


@contextmanager
def server() -> Iterator[str]:
    """The server on an empty store and a free port; its log goes to target/demo/server.log."""
    binary = os.environ.get("AUTOLRS_BIN", "target/release/autolrs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = OUT / "server.log"
    command = [binary, "serve", "--listen", address, "--http-listen", "off", "--data-dir", str(OUT / "store")]
    print("== " + " ".join(command))
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    try:
        wait_until_ready(process, address, log)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Returns once the port answers; leaves with the server's log if it does not."""
    host, port = address.split(":")
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"The server did not start:\n{log.read_text()}")


if __name__ == "__main__":
    main()
