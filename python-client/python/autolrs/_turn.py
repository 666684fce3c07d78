"""What rank 0 tells the other ranks, as values: where the job stands and what comes next, or an error."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from autolrs._exceptions import Error

# What `_core.Session.record`, `tick` and `status` answer, and those of several ranks.
GO_ON, LR_CHANGED, ENDED, WANT_LOSSES, VALIDATE = range(5)


@dataclass(frozen=True)
class Turn:
    """The native session of rank 0 at one moment, between two steps.

    code: what has to be done before the next step, as `_core.Session.status` answers.
    lrs: LRs of the next steps, until the ranks have to speak again; empty if `code` is something to be done first.
    lr: LR of the next step, or the last one.
    line: the LRs of the directive's steps that were not run yet, if the directive has just begun.
    ops: slot operations to be done before the next step.
    losses: those that the ranks have just agreed on.
    The other fields are the properties of `_core.Session`.
    """

    uid: str
    seq: int
    phase: str
    replay: bool
    code: int
    lrs: tuple[float, ...]
    lr: float
    line: str | None
    ops: tuple[tuple[str, str], ...]
    losses: tuple[float, ...]
    committed_step: int
    total_step: int
    done_reason: str | None
    detached: bool


class Raised:
    """An error of rank 0, to be raised on every rank."""

    def __init__(self, error: BaseException) -> None:
        try:
            self._pickled = pickle.dumps(error)
            pickle.loads(self._pickled)
        except Exception:
            self._pickled = pickle.dumps(Error(f"On rank 0: {type(error).__name__}: {error}"))

    def error(self) -> BaseException:
        """A copy of it."""
        error = pickle.loads(self._pickled)
        return error if isinstance(error, BaseException) else Error(f"On rank 0: {error!r}")
