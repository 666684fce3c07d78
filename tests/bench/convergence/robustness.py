"""Robustness of `scan` on the cheapest task: python -m convergence.robustness --rows tests/bench/robustness.jsonl

| case | what is hard about it |
|---|---|
| five decades | nothing: the LRs may be anything from 1e-5 to 1; with the guards, and without |
| too high, too low, too narrow | the range holds no good LR, or only half a decade around one |
| loss x 0.01, loss + 10, loss - 10 | the loss has another unit; the last one is negative and has no lower bound |
| label noise | 40 % of 2,000 training labels are wrong, and there are steps enough to learn them by heart |

A run is destroyed if its final loss is not finite, or if its test error is worse than the best constant LR's by ten of
that one's seed standard deviations; the constant LR was tuned by `python -m convergence` (its rows are needed).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import autolrs.torch as autolrs
from convergence import data, models, tasks
from convergence.rows import Rows
from convergence.serving import server
from convergence.table import destroyed_above

BUDGET = 1500
# Enough committed stretches for the validation losses to be judged.
LONG_BUDGET = 6000
TASK = tasks.TASKS["perceptron"]


@dataclass(frozen=True)
class Case:
    """A way of asking for trouble. `options` go to the Schedule; the reported loss is scale x loss + offset."""

    name: str
    seeds: int
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    # Images to train on, if not all, and the share of their labels that are drawn anew.
    images: int | None = None
    label_noise: float = 0.0


FIVE_DECADES = {"lr_range": (1e-5, 1.0)}
CASES = (
    Case("five decades", 100, FIVE_DECADES),
    Case("five decades, no guards", 100, {**FIVE_DECADES, "guard": False}),
    Case("range far too high", 20, {"lr_range": (1.0, 1e3)}),
    Case("range far too low", 20, {"lr_range": (1e-9, 1e-6)}),
    Case("range too narrow", 20, {"lr_range": (1e-3, 3e-3)}),
    Case("loss x 0.01", 20, FIVE_DECADES, scale=0.01),
    Case("loss + 10", 20, FIVE_DECADES, offset=10.0),
    Case("loss - 10, no lower bound", 20, {**FIVE_DECADES, "loss_lower_bound": None}, offset=-10.0),
    Case("label noise", 10, FIVE_DECADES, images=2000, label_noise=0.4),
    Case("as few images, no label noise", 10, FIVE_DECADES, images=2000),
)


def run(case: Case, seed: int, address: str) -> dict[str, Any]:
    """One training."""
    torch.set_num_threads(1)
    training = few(seed, case.images, case.label_noise) if case.images else TASK.make(seed)
    optimizer = TASK.optimizer(training.model.parameters(), 0.01)
    job = f"{case.name.replace(' ', '-').replace(',', '').replace('+', 'plus')}-{seed}"
    budget = LONG_BUDGET if case.images else BUDGET
    validate = (lambda: training.evaluate("validation")[0]) if case.images else None
    with autolrs.Schedule(
        optimizer, training.model, budget, job=job, server=address, seed=seed, validate=validate, **case.options
    ) as schedule:
        for batch in schedule.steps(training.batches):
            optimizer.zero_grad(set_to_none=True)
            loss = training.loss(batch)
            loss.backward()
            optimizer.step()
            schedule.step(case.scale * loss + case.offset)
    kinds = [step.kind for step in schedule.history]
    loss, error = training.evaluate("test")
    return {
        "case": case.name,
        "seed": seed,
        "steps": len(kinds),
        "reason": schedule.done_reason,
        "overhead": kinds.count("search") / len(kinds),
        "lost": kinds.count("lost") / len(kinds),
        "committed_lr": max((step.lr for step in schedule.history if step.kind == "committed"), default=None),
        "test_loss": loss if math.isfinite(loss) else None,
        "test": error if math.isfinite(loss) else None,
        "warnings": warnings_of(address, job),
    }


def few(seed: int, count: int, share: float) -> tasks.Training:
    """So many images to train on, this share of whose labels are drawn anew; validation and test are clean."""
    images = data.only(data.fashion(), range(10), count)
    x, y = images["train"]
    draw = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(y), generator=draw) < share
    images["train"] = (x, torch.where(wrong, torch.randint(10, y.shape, generator=draw), y))
    torch.manual_seed(seed)
    return tasks.images_training(models.perceptron(10), images, 64, seed)


def warnings_of(address: str, job: str) -> list[str]:
    """What the service says of a job, as an operator reads it."""
    binary = os.environ.get("AUTOLRS_BIN", "target/release/autolrs")
    command = [binary, "jobs", "show", job, "--output", "json", "--server", f"http://{address}"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return list(shown["warnings"])


def markdown(rows: list[dict[str, Any]], worst: float) -> Iterator[str]:
    """A line per case."""
    yield "| case | runs | test error % | destroyed | search, median (most) | lost, most | LR, median | said |"
    yield "|---|---|---|---|---|---|---|---|"
    for case in CASES:
        runs = [row for row in rows if row["case"] == case.name]
        if not runs:
            continue
        tests = [row["test"] for row in runs if row["test"] is not None]
        destroyed = sum(row["test"] is None or row["test"] > worst for row in runs)
        overheads = [row["overhead"] for row in runs]
        parted = sum(any("validation" in warning for warning in row["warnings"]) for row in runs)
        warned = sum(bool(row["warnings"]) for row in runs)
        error = f"{statistics.fmean(tests):.2f} +- {statistics.stdev(tests):.2f}" if len(tests) > 1 else "-"
        yield (
            f"| {case.name} | {len(runs)} | {error} | {'-' if case.images else destroyed} | "
            f"{statistics.median(overheads):.1%} ({max(overheads):.1%}) | {max(row['lost'] for row in runs):.1%} | "
            f"{statistics.median(row['committed_lr'] for row in runs):.2g} | "
            f"{f'parted: {parted}' if case.images else f'any warning: {warned}'} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="convergence.robustness", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--constants", type=Path, default=Path("tests/bench/convergence.jsonl"))
    parser.add_argument("--cases", nargs="+", default=[case.name for case in CASES])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    rows = Rows(arguments.rows, ("case", "seed"))
    wanted = [(case, seed) for case in CASES if case.name in arguments.cases for seed in range(case.seeds)]
    missing = [(case, seed) for case, seed in wanted if (case.name, seed) not in rows]
    with (
        server() as address,
        ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for count, future in enumerate(as_completed([pool.submit(run, *job, address) for job in missing]), start=1):
            rows.add(future.result())
            print(f"\r{count}/{len(missing)} ", end="", file=sys.stderr, flush=True)
    constants = Rows(arguments.constants).some(task=TASK.name, policy="constant", budget=BUDGET, final=True)
    worst = destroyed_above([row["test"] for row in constants])
    print(f"\ndestroyed: a test error above {worst:.2f} %")
    print("\n".join(markdown(list(rows), worst)))


if __name__ == "__main__":
    main()
