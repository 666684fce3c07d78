"""How each policy gets its LRs. Rivals are PyTorch's own schedulers with their defaults, and two optimizers without a
schedule; ours go through the server. `lr` is the one that was tuned, or none where the policy needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

import autolrs.torch as autolrs
from convergence.tasks import Batch, Task, Training

# Share of the budget in which the LR of `cosine`, `wsd` and `schedule-free` rises.
WARMUP = 0.05
# Share of the budget in which the LR of `wsd` falls: as much as in `scan`; Hägele et al. 2024 take 0.2.
DECAY = 0.4


@dataclass
class Progress:
    """What a training is told between two steps."""

    done: Callable[[], bool]
    step: Callable[[torch.Tensor], None]
    batches: Iterator[Batch]
    optimizer: Optimizer
    # Whether the weights are those of a trial, not to be evaluated.
    searching: Callable[[], bool] = lambda: False
    # Put around an evaluation: other weights than those that are trained, perhaps.
    averaged: bool = False
    summary: Callable[[], dict[str, Any]] = dict


Open = Callable[[Task, Training, float, int, int, str], Any]


def _counted(training: Training, optimizer: Optimizer, budget: int, step: Callable[[], None]) -> Progress:
    done = [0]

    def count(_: torch.Tensor) -> None:
        done[0] += 1
        if done[0] < budget:
            step()

    return Progress(lambda: done[0] >= budget, count, training.batches(0), optimizer)


def _scheduled(make: Callable[[Optimizer, float, int], Any]) -> Open:
    @contextmanager
    def opened(task: Task, training: Training, lr: float, budget: int, seed: int, server: str) -> Iterator[Progress]:
        optimizer = task.optimizer(training.model.parameters(), lr)
        schedule = make(optimizer, lr, budget)
        progress = _counted(training, optimizer, budget, schedule.step if schedule is not None else lambda: None)
        progress.summary = lambda: {"overhead": 0.0}
        yield progress

    return opened


def _warm(optimizer: Optimizer, budget: int, after: Callable[[Optimizer, int], Any]) -> Any:
    """A linear warm-up over 5 % of the budget, then what `after` makes of the rest."""
    warmup = max(1, round(WARMUP * budget))
    rise = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup)
    return lr_scheduler.SequentialLR(optimizer, [rise, after(optimizer, budget - warmup)], [warmup])


def _cosine(optimizer: Optimizer, _: float, budget: int) -> Any:
    return _warm(optimizer, budget, lr_scheduler.CosineAnnealingLR)


def _wsd(optimizer: Optimizer, _: float, budget: int) -> Any:
    def after(optimizer: Optimizer, steps: int) -> Any:
        decay = round(DECAY * budget)
        return lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, max(0.0, (steps - i) / decay)))

    return _warm(optimizer, budget, after)


def _one_cycle(optimizer: Optimizer, lr: float, budget: int) -> Any:
    cycles = "momentum" in optimizer.defaults and optimizer.defaults["momentum"] > 0 or "betas" in optimizer.defaults
    return lr_scheduler.OneCycleLR(optimizer, lr, budget, cycle_momentum=cycles)


def _clr(optimizer: Optimizer, lr: float, budget: int) -> Any:
    cycles = optimizer.defaults.get("momentum", 0) > 0
    return lr_scheduler.CyclicLR(optimizer, lr / 4, lr, max(1, -(-budget // 8)), cycle_momentum=cycles)


def _sgdr(optimizer: Optimizer, _: float, budget: int) -> Any:
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, max(1, -(-budget // 15)), 2)


@contextmanager
def _schedule_free(
    task: Task, training: Training, lr: float, budget: int, seed: int, server: str
) -> Iterator[Progress]:
    """Defazio et al. 2024, with its authors' package; RMSprop's place is taken by AdamW."""
    import schedulefree

    parameters, warmup = training.model.parameters(), round(WARMUP * budget)
    if task.family == "sgd":
        options = {"momentum": 0.9, "weight_decay": 5e-4}
        optimizer = schedulefree.SGDScheduleFree(parameters, lr, warmup_steps=warmup, foreach=False, **options)
    else:
        optimizer = schedulefree.AdamWScheduleFree(
            parameters, lr, weight_decay=0.01, warmup_steps=warmup, foreach=False
        )
    optimizer.train()
    progress = _counted(training, optimizer, budget, lambda: None)
    progress.averaged = True
    progress.summary = lambda: {"overhead": 0.0}
    yield progress


@contextmanager
def _prodigy(task: Task, training: Training, lr: float, budget: int, seed: int, server: str) -> Iterator[Progress]:
    """Mishchenko & Defazio 2023, with its authors' package, LR 1 and the cosine that they advise."""
    import prodigyopt

    optimizer = prodigyopt.Prodigy(training.model.parameters(), lr=1.0, weight_decay=0.01)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, budget)
    progress = _counted(training, optimizer, budget, schedule.step)
    progress.summary = lambda: {"overhead": 0.0}
    yield progress


def _ours(policy: str, options: Callable[[int], dict[str, Any]] = lambda _: {}, validated: bool = False) -> Open:
    @contextmanager
    def opened(task: Task, training: Training, lr: float, budget: int, seed: int, server: str) -> Iterator[Progress]:
        # The LR of the optimizer is PyTorch's default: nothing is told that had to be tuned.
        optimizer = task.optimizer(training.model.parameters(), 0.01 if task.family == "rmsprop" else 0.001)
        with autolrs.Schedule(
            optimizer,
            training.model,
            budget,
            job=f"{task.name}-{policy}-{budget}-{seed}",
            server=server,
            policy=policy,
            options=options(budget),
            lr_range=(task.grid[0], task.grid[-1]),
            validate=(lambda: training.evaluate("validation")[0]) if validated else None,
            seed=seed,
            restart=True,
        ) as schedule:
            yield Progress(
                lambda: schedule.done,
                schedule.step,
                schedule.steps(training.batches),
                optimizer,
                lambda: schedule.searching,
                summary=lambda: _told(schedule),
            )

    return opened


def _told(schedule: autolrs.Schedule) -> dict[str, Any]:
    """What a schedule that has ended says of itself."""
    kinds = [step.kind for step in schedule.history]
    kept = [step.lr for step in schedule.history if step.kind == "committed"]
    return {
        "overhead": kinds.count("search") / max(1, len(kinds)),
        "lost": kinds.count("lost"),
        "committed_lr": max(kept, default=None),
        "reason": schedule.done_reason,
    }


def _paper(budget: int) -> dict[str, Any]:
    """The published stages (1,000 steps and more, doubling up to 8 times that) in proportion to a small budget."""
    return {"tau": max(50, budget // 18), "tau_max": max(400, 8 * (budget // 18))}


# Policies whose LR is tuned.
TUNED: dict[str, Open] = {
    "constant": _scheduled(lambda *_: None),
    "cosine": _scheduled(_cosine),
    "one-cycle": _scheduled(_one_cycle),
    "wsd": _scheduled(_wsd),
    "clr": _scheduled(_clr),
    "sgdr": _scheduled(_sgdr),
    "schedule-free": _schedule_free,
}
# Policies that are given no LR; OURS are the service's.
OURS: dict[str, Open] = {
    "scan": _ours("scan"),
    "staged": _ours("staged"),
    "paper": _ours("paper", _paper, validated=True),
}
POLICIES = {**TUNED, "prodigy": _prodigy, **OURS}
