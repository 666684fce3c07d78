"""Branches of `scan` at many LRs and lengths: python -m ideas.branches --rows tests/bench/ideas-branches.jsonl"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from convergence.rows import Rows
from convergence.tasks import TASKS
from torch.optim import Adam, Optimizer, RMSprop

LENGTHS = (16, 24, 32, 48, 64, 96, 192)
SEEDS = range(4)
NAMES = ("task", "optimizer", "seed", "steps", "lr")
OPTIMIZERS = {"adam": Adam, "rmsprop": RMSprop}
# Each task with its own optimizer, and others where they tell something about the optimizer.
KINDS = [
    *((task, None) for task in TASKS),
    ("perceptron", "adam"),
    ("resnet", "rmsprop"),
    ("transformer", "rmsprop"),
]


def factors(steps: int) -> Iterator[float]:
    """The LR of a branch's steps as a share of its LR: up over a quarter, held, down over 40 %."""
    up, down = max(1, round(steps / 4)), max(1, round(0.4 * steps))
    for i in range(steps):
        yield min((i + 1) / up, 1.0, (steps - i) / (down + 1))


def run(task: str, kind: str | None, seed: int, steps: int, lr: float) -> dict[str, Any]:
    """One branch; no score if it was stopped."""
    torch.set_num_threads(1)
    training = TASKS[task].make(seed)
    parameters = training.model.parameters()
    optimizer: Optimizer = OPTIMIZERS[kind](parameters, lr=lr) if kind else TASKS[task].optimizer(parameters, lr)
    stream, losses = training.batches(0), []
    for factor in factors(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * factor
        optimizer.zero_grad(set_to_none=True)
        loss = training.loss(next(stream))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not losses[-1] < 5 * losses[0]:
            break
    scored = max(4, round(0.15 * steps))
    score = math.fsum(losses[-scored:]) / scored if len(losses) == steps else None
    return {"task": task, "optimizer": kind, "seed": seed, "steps": steps, "lr": lr, "score": score, "first": losses[0]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="ideas.branches", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    rows = Rows(parser.parse_args().rows, NAMES)
    for task, kind in KINDS:
        sgd = kind is None and TASKS[task].family == "sgd"
        for seed in SEEDS:
            for steps in LENGTHS:
                for k in range(-6, 2) if sgd else range(-9, 0):
                    key = (task, kind, seed, steps, 10 ** (k / 2))
                    if key not in rows:
                        rows.add(run(*key))


if __name__ == "__main__":
    main()
