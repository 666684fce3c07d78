"""LR and search in the run's own log, from any loop: TensorBoard, wandb, or whatever keeps numbers by step.

>>> track = autolrs.tracking.Tracker(schedule, SummaryWriter())  # or wandb.init(...), or a function
>>> for batch in schedule.steps(loader):
...     schedule.step(train_step(batch))
...     track()

The callbacks for Lightning and for Hugging Face's Trainer log by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autolrs._history import SEARCH_PHASE, Step
from autolrs._session import BaseSchedule

__all__ = ["Tracker"]

Write = Callable[[dict[str, float], int], object]


class Tracker:
    """Writes what has happened since its last call: `train/lr` and `train/loss` of kept steps, `search/lr` and
    `search/loss` of trials. The steps' number, their `total_step`, counts from 0 and includes those of trials.

    Parameters
    ----------
    schedule : autolrs.torch.Schedule, autolrs.Session
        What is followed. Steps that it has behind it, in an earlier process, are not written again.
    to : object
        A `SummaryWriter`, or anything with its method `add_scalar`; a wandb run, or the module, or anything with its
        method `log`, which is given `total_step` beside the metrics, so that it is the x-axis whatever else the run
        counts; a logger of Lightning or mlflow, with `log_metrics`; or a function of the metrics, a dict of floats, and
        the step.
    every : int
        Writes each `every`-th step, and the first of every directive: a trial, or a stretch of training.

    Raises
    ------
    TypeError
        `to` is none of these.
    """

    def __init__(self, schedule: BaseSchedule, to: Any, every: int = 10) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self._schedule = schedule
        self._write = _writer(to)
        self._every = every
        self._next = len(schedule.history)
        self._seq: int | None = None

    def __call__(self) -> None:
        """Writes the steps since the last call whose losses are known; those on a device come a little later."""
        self._upto(self._schedule.history.losses_known)

    def close(self) -> None:
        """Writes all that is left, also steps whose loss is unknown: those have no `loss`. Call it after the loop."""
        self._upto(len(self._schedule.history))

    def _upto(self, end: int) -> None:
        history = self._schedule.history
        while self._next < end:
            step = history[self._next]
            if step.seq != self._seq or step.total_step % self._every == 0:
                self._write(_metrics(step, self._next < history.losses_known), step.total_step)
            self._seq = step.seq
            self._next += 1


def _metrics(step: Step, loss_known: bool) -> dict[str, float]:
    group = "search" if step.phase == SEARCH_PHASE else "train"
    metrics = {f"{group}/lr": step.lr}
    if loss_known:
        metrics[f"{group}/loss"] = step.loss
    return metrics


def _writer(to: Any) -> Write:
    if hasattr(to, "add_scalar"):

        def scalars(metrics: Mapping[str, float], step: int) -> None:
            for name, value in metrics.items():
                to.add_scalar(name, value, step)

        return scalars
    if hasattr(to, "log_metrics"):
        return lambda metrics, step: to.log_metrics(metrics, step=step)
    if callable(getattr(to, "log", None)):
        if hasattr(to, "define_metric"):
            for group in ("train/*", "search/*"):
                to.define_metric(group, step_metric="total_step")
        return lambda metrics, step: to.log({**metrics, "total_step": step})
    if callable(to):
        return to  # type: ignore[no-any-return]
    raise TypeError(
        f"A {type(to).__name__} can't be logged to: it needs add_scalar, log_metrics or log, or to be a function of a "
        "dict and a step."
    )
