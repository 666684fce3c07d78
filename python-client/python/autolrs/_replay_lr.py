"""A saved schedule beside a PyTorch optimizer, in the manner of PyTorch's own schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from autolrs._exceptions import CheckpointMismatch
from autolrs._groups import GroupLRs
from autolrs._saved import SavedSchedule, _parse

STATE_VERSION = 1


class ReplayLR:
    """Sets the LRs of a saved schedule, one step after the other; `autolrs.replay` makes it."""

    def __init__(self, schedule: SavedSchedule, optimizer: Optimizer) -> None:
        self._schedule = schedule
        self._groups = GroupLRs(optimizer)
        self._optimizer = optimizer
        self._step = 0
        self._put()

    @property
    def schedule(self) -> SavedSchedule:
        """What is replayed."""
        return self._schedule

    def step(self) -> None:
        """Sets the LR of the next step. Call it once after every `optimizer.step()`."""
        if not self._groups.untouched():
            self._groups.reclaim()
        self._step += 1
        self._put()

    def get_last_lr(self) -> list[float]:
        """The LR of each parameter group, as PyTorch's schedulers give it."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint file needs to go on here, the schedule included."""
        return {
            "version": STATE_VERSION,
            "step": self._step,
            "base": self._groups.base,
            "ratios": list(self._groups.ratios),
            "schedule": self._schedule._line.to_json(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken, with the schedule of that time."""
        if state.get("version") != STATE_VERSION:
            raise CheckpointMismatch(
                f"This checkpoint of a replay has version {state.get('version')!r}; this release reads "
                f"version {STATE_VERSION}."
            )
        self._schedule = _parse(state["schedule"])
        self._groups.load(state["base"], state["ratios"])
        self._step = state["step"]
        self._put()

    def _put(self) -> None:
        self._groups.put(self._schedule.lr(self._step))
