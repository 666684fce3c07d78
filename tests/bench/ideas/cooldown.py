"""Cooldown and averaged weights: python -m ideas.cooldown --rows tests/bench/ideas-cooldown.jsonl

Warm-up over 5 %, then the LR that `wsd` was tuned to (or twice that) until the cooldown. Averaged weights are those of
the 40 % linear cooldown, with statistics of batch norm measured anew.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from convergence.rows import Rows
from convergence.tasks import TASKS
from convergence.trial import measure_norms

NAMES = ("task", "seed", "multiple", "weights")
BUDGET = 1500
TUNED = {"perceptron": 3.2e-3, "resnet": 0.05, "transformer": 2.5e-3, "bert": 2.5e-3, "fine-tuning": 0.1}
SHAPES = [("linear", 0.4), ("linear", 0.6), ("linear", 0.8), ("1 - sqrt", 0.4), ("1 - sqrt", 0.6), ("cosine", 0.4)]
AVERAGES = (0.99, 0.997)


def factor(shape: str, share: float, i: int) -> float:
    """The LR of step i as a share of the peak."""
    up, down = round(0.05 * BUDGET), round(share * BUDGET)
    if i < BUDGET - down:
        return min(1.0, (i + 1) / up)
    u = (i - (BUDGET - down) + 1) / (down + 1)
    return {"linear": 1 - u, "1 - sqrt": 1 - math.sqrt(u), "cosine": 0.5 * (1 + math.cos(math.pi * u))}[shape]


def run(task: str, seed: int, multiple: int, shape: str, share: float) -> list[dict[str, Any]]:
    """One training: a row for its weights and, with the first shape, for the averaged ones."""
    torch.set_num_threads(1)
    training, lr = TASKS[task].make(seed), TUNED[task] * multiple
    optimizer = TASKS[task].optimizer(training.model.parameters(), lr)
    stream, weights = training.batches(0), list(training.model.parameters())
    averages: dict[float, list[torch.Tensor]] = {}
    for i in range(BUDGET):
        for group in optimizer.param_groups:
            group["lr"] = lr * factor(shape, share, i)
        optimizer.zero_grad(set_to_none=True)
        training.loss(next(stream)).backward()
        optimizer.step()
        if (shape, share) == SHAPES[0] and i >= BUDGET // 2:
            with torch.no_grad():
                for decay in AVERAGES:
                    kept = averages.setdefault(decay, [weight.detach().clone() for weight in weights])
                    for average, weight in zip(kept, weights):
                        average.mul_(decay).add_(weight, alpha=1 - decay)
    rows = []

    def measure(name: str) -> None:
        loss, metric = training.evaluate("validation")
        row = {"task": task, "seed": seed, "multiple": multiple, "weights": name}
        rows.append({**row, "validation_loss": loss, "validation": metric, "test": training.evaluate("test")[1]})

    measure(f"{shape}, {share:.0%}")
    for decay, kept in averages.items():
        with torch.no_grad():
            for average, weight in zip(kept, weights):
                weight.copy_(average)
        if TASKS[task].batch_norm:
            measure_norms(training)
        measure(f"averaged, {decay}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="ideas.cooldown", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    arguments = parser.parse_args()
    rows = Rows(arguments.rows, NAMES)
    for task in arguments.tasks:
        for seed in (0, 1):
            for multiple in (1, 2):
                for shape, share in SHAPES:
                    if (task, seed, multiple, f"{shape}, {share:.0%}") not in rows:
                        for row in run(task, seed, multiple, shape, share):
                            rows.add(row)
    names = list(dict.fromkeys(row["weights"] for row in rows))
    print(f"\n| validation loss, mean of two seeds | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for task in arguments.tasks:
        for multiple in (1, 2):
            found = [rows.some(task=task, multiple=multiple, weights=name) for name in names]
            cells = [f"{statistics.fmean(r['validation_loss'] for r in of):.4f}" if of else "-" for of in found]
            print(f"| {task}, LR {TUNED[task] * multiple:.2g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
