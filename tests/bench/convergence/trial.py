"""One training, and what came of it."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import nn

from convergence.policies import OURS, POLICIES, Progress
from convergence.tasks import TASKS, Training

# Evaluations on the validation part in a whole training: every 2 % of the budget.
EVALUATIONS = 50
# Batches over which the statistics of batch norm are measured anew for averaged weights.
NORM_BATCHES = 20

# Steps, the validation metric (none in a trial), the mean training loss since the point before, the LR.
Point = tuple[int, float | None, float | None, float | None]


def run(task: str, policy: str, lr: float | None, budget: int, seed: int, server: str, final: bool) -> dict[str, Any]:
    """A training of `budget` steps in all. With `final` it is evaluated on its way, and on the test part at its end.

    A plain training whose loss is no number any more is broken off; ours are left to their guards.
    """
    torch.set_num_threads(1)
    begun = time.monotonic()
    given, training = TASKS[task], TASKS[task].make(seed)
    curve: list[Point] = []
    with POLICIES[policy](given, training, lr, budget, seed, server) as progress:
        every, steps, losses = max(1, budget // EVALUATIONS), 0, 0.0
        for batch in progress.batches:
            progress.optimizer.zero_grad(set_to_none=True)
            loss = training.loss(batch)
            loss.backward()
            progress.optimizer.step()
            used = progress.optimizer.param_groups[0]["lr"]
            value = loss.item()
            progress.step(loss)
            steps, losses = steps + 1, losses + value
            if progress.done() or not (policy in OURS or math.isfinite(value)):
                break
            if final and steps % every == 0:
                shown = (
                    None if progress.searching() else evaluate(training, progress, given.batch_norm, "validation")[1]
                )
                curve.append((steps, shown, losses / every, used))
                losses = 0.0
        loss, metric = evaluate(training, progress, given.batch_norm, "validation")
        row = {
            "task": task,
            "policy": policy,
            "lr": lr,
            "budget": budget,
            "seed": seed,
            "final": final,
            "steps": steps,
            "validation_loss": loss,
            "validation": metric,
            **progress.summary(),
        }
        if final:
            row["test"] = evaluate(training, progress, given.batch_norm, "test")[1]
            row["curve"] = [[_rounded(value) for value in point] for point in (*curve, (steps, metric, None, None))]
    row["seconds"] = round(time.monotonic() - begun, 1)
    return {key: _finite(value) for key, value in row.items()}


def evaluate(training: Training, progress: Progress, batch_norm: bool, part: str) -> tuple[float, float]:
    """On the weights that the policy gives its user."""
    if not progress.averaged:
        return training.evaluate(part)
    progress.optimizer.eval()
    try:
        if batch_norm:
            measure_norms(training)
        return training.evaluate(part)
    finally:
        progress.optimizer.train()


def measure_norms(training: Training) -> None:
    """The statistics of batch norm belong to the weights that were trained; these are for the averaged ones."""
    norms = [part for part in training.model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    stream = training.batches(0)
    with torch.no_grad():
        for _ in range(NORM_BATCHES):
            training.loss(next(stream))
    for norm in norms:
        norm.momentum = 0.1


def _finite(value: Any) -> Any:
    """JSON has no NaN: none says that a number was not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(value: float | None) -> float | None:
    """To five digits, which is more than a picture shows."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
