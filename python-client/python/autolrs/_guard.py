"""Numerical errors of a trial, turned into a diverged loss."""

from __future__ import annotations

import re
from abc import abstractmethod
from types import TracebackType

from autolrs._session import BaseSchedule


class GuardedSchedule(BaseSchedule):
    """A schedule whose user may wrap a step in `guarded()`."""

    _guards = 0

    def guarded(self) -> Guard:
        """Turns numerical errors of a trial into a diverged loss.

        >>> for batch in schedule.steps(loader):
        ...     with schedule.guarded():
        ...         schedule.step(train_step(batch))

        In a trial, FloatingPointError, OverflowError, AssertionError, and RuntimeError or ValueError whose message
        speaks of NaN or infinity, end the step with a NaN loss (the validation loss, if `validate` raised them).
        Elsewhere they are raised; and so they are with several processes, where the others wait for this one's
        gradients. There let the loss be NaN, and check numbers only `if not schedule.searching`.
        """
        return Guard(self)

    @abstractmethod
    def _diverged(self) -> None:
        """A trial's step broke off: its loss counts as NaN."""

    def _forgives(self, error: BaseException) -> bool:
        """Whether the error is a trial's own, inside `guarded()`."""
        return self._guards > 0 and self.searching and _is_numerical(error)


class Guard:
    """See `GuardedSchedule.guarded`."""

    def __init__(self, schedule: GuardedSchedule) -> None:
        self._schedule = schedule

    def __enter__(self) -> None:
        self._steps = len(self._schedule.history)
        self._schedule._guards += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        forgiven = error is not None and self._schedule._forgives(error)
        self._schedule._guards -= 1
        if not forgiven or len(self._schedule.history) != self._steps:
            return False  # a step that was complete: the error is another one's
        if self._schedule._channel is not None:
            self._schedule._warn(
                "guarded() can't make this error of a trial a diverged loss: the other processes wait for this one's "
                "gradients. Let the loss be NaN, and check numbers only `if not schedule.searching`."
            )
            return False
        self._schedule._diverged()
        return True


_NUMERICAL = (FloatingPointError, OverflowError, AssertionError)
_SPEAKS_OF_NAN = re.compile(r"\b(nan|inf|infinite|infinity|non-?finite|not finite|overflow)", re.IGNORECASE)


def _is_numerical(error: BaseException) -> bool:
    if isinstance(error, _NUMERICAL):
        return True
    return isinstance(error, (RuntimeError, ValueError)) and _SPEAKS_OF_NAN.search(str(error)) is not None
