"""One schedule in several processes (ranks) that train the same weights.

Rank 0 alone holds the native session and speaks with the server; the others hear of it in turns. The ranks speak with
each other only where something else than the LR may change, so that a step costs nothing more. All of them reach those
places after the same step: they follow from the turn before.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from autolrs import _core
from autolrs._exceptions import CheckpointMismatch, Error
from autolrs._history import SEARCH_PHASE
from autolrs._turn import GO_ON, LR_CHANGED, WANT_LOSSES, Raised, Turn

T = TypeVar("T")


class Channel(Protocol):
    """How the ranks speak with each other. Both calls wait for all of them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sum over the ranks, number by number, in double precision; every rank gives as many."""


def common_job(channel: Channel, job: str, checkpoint: bytes | None) -> str:
    """Rank 0's name for the job, once it is sure that all ranks begin anew or go on from the same checkpoint."""
    digest = None if checkpoint is None else zlib.crc32(checkpoint)
    job, first = channel.broadcast((job, digest))
    if channel.sum([float(digest == first)]) != [channel.size]:
        raise CheckpointMismatch(
            "The ranks have not loaded the same checkpoint: load the schedule's state of rank 0 on every rank, or on "
            "none. (Where only rank 0 reads the file, broadcast its content first.)"
        )
    return job


class RankedSession:
    """What `_core.Session` is to a process alone. All ranks call its methods at the same steps, except where they say
    otherwise; an error of rank 0 is raised on every rank.

    Parameters
    ----------
    channel : the way to the other ranks
    connect : opens the native session; called on rank 0
    """

    def __init__(self, channel: Channel, connect: Callable[[], _core.Session]) -> None:
        self._channel = channel
        self._native: _core.Session | None = None
        # Slot operations that rank 0 has taken and the others have not been told of, if it was interrupted.
        self._untold: list[tuple[str, str]] = []
        # Steps since the last turn.
        self._since = 0
        self.can_replay = True

        def opened() -> Turn:
            self._native = connect()
            return self._describe(begun=True)

        self._turn: Turn
        self._line = ""
        self._ops: list[tuple[str, str]] = []
        self._take(opened)

    # -- steps

    def tick(self) -> int:
        """A step was run; its loss follows. Speaks with nobody."""
        since = self._since = self._since + 1
        if self._native is not None:
            self._native.tick()
        lrs = self._turn.lrs
        if since < len(lrs):
            return GO_ON if lrs[since] == lrs[since - 1] else LR_CHANGED
        return WANT_LOSSES

    def exchange(self, losses: Sequence[float], can_replay: bool) -> list[float]:
        """Gives this rank's losses of the steps since the last exchange, and whether it can still give the batches of
        a trial again. The mean losses; one that is NaN on any rank is NaN. `can_replay` is then whether all can."""
        *sums, able = self._channel.sum([*losses, float(can_replay)])
        self.can_replay = able == self._channel.size
        mean = [total / self._channel.size for total in sums]

        def delivered() -> Turn:
            self._here.losses(mean)
            return self._describe(losses=mean)

        return list(self._take(delivered).losses)

    def answer(self, measure: Callable[[], float]) -> None:
        """Measures the validation loss that was asked for, on every rank; the mean counts."""
        failed: BaseException | None = None
        loss = 0.0
        try:
            loss = measure()
        except BaseException as error:  # the others wait for this rank
            failed = error
        total, failures = self._channel.sum([loss, float(failed is not None)])
        if failed is not None:
            raise failed
        if failures:
            raise Error("The function validate= has raised an error on another rank; see that one's output.")
        mean = total / self._channel.size

        def validated() -> Turn:
            self._here.validation(mean)
            return self._describe()

        self._take(validated)

    def next(self) -> None:
        """Waits for the next directive."""

        def waited() -> Turn:
            self._here.next()
            return self._describe(begun=True)

        self._take(waited)

    def status(self) -> int:
        """What has to be done before the next step."""
        if self._since == 0:
            return self._turn.code
        return GO_ON if self._since < len(self._turn.lrs) else WANT_LOSSES

    def take_slot_ops(self) -> list[tuple[str, str]]:
        """What to do with slots before the next step, as (operation, slot)."""
        ops, self._ops = self._ops, []
        return ops

    def finish(self, cooldown_steps: int | None) -> None:
        """Asks the server to end the job in order."""
        self._together(lambda: self._here.finish(cooldown_steps))

    # -- for one rank

    def validation(self, loss: float) -> None:
        """A validation loss that nobody asked for: rank 0's is reported."""
        if self._native is not None:
            self._native.validation(loss)

    def export_delivered(self) -> bytes:
        """The state of the last exchange; empty on other ranks than 0."""
        return self._native.export_delivered() if self._native is not None else b""

    def export_slot(self) -> str | None:
        """The slot whose content belongs into rank 0's checkpoint."""
        return self._native.export_slot() if self._native is not None else None

    @property
    def delivered(self) -> int:
        """How many losses of the directive the ranks have agreed on; known to rank 0."""
        return self._native.delivered if self._native is not None else 0

    def flush(self, timeout: float) -> bool:
        """Waits until the server has what the ranks have agreed on."""
        return self._native is None or self._native.flush(timeout)

    def close(self, timeout: float) -> None:
        """Ends the session; the other ranks may be gone."""
        if self._native is not None:
            self._native.close(timeout)

    def warnings(self) -> list[str]:
        """Sentences for the user; rank 0 says them."""
        return self._native.warnings() if self._native is not None else []

    # -- where the job stands, the same on every rank

    @property
    def uid(self) -> str:
        return self._turn.uid

    @property
    def seq(self) -> int:
        return self._turn.seq

    @property
    def phase(self) -> str:
        return self._turn.phase

    @property
    def line(self) -> str:
        return self._line

    @property
    def replay(self) -> bool:
        return self._turn.replay and self.can_replay

    @property
    def lr(self) -> float:
        if self._since == 0:
            return self._turn.lr
        lrs = self._turn.lrs
        return lrs[min(self._since, len(lrs) - 1)] if lrs else self._turn.lr

    @property
    def done(self) -> bool:
        return self._turn.done_reason is not None

    @property
    def done_reason(self) -> str | None:
        return self._turn.done_reason

    @property
    def committed_step(self) -> int:
        return self._turn.committed_step + (0 if self._turn.phase == SEARCH_PHASE else self._since)

    @property
    def total_step(self) -> int:
        return self._turn.total_step + self._since

    @property
    def detached(self) -> bool:
        return self._turn.detached

    # -- turns

    @property
    def _here(self) -> _core.Session:
        if self._native is None:
            raise Error("Only rank 0 holds the session.")
        return self._native

    def _describe(self, begun: bool = False, losses: Sequence[float] = ()) -> Turn:
        session = self._here
        if begun:
            self._untold += session.take_slot_ops()
        return Turn(
            uid=session.uid,
            seq=session.seq,
            phase=session.phase,
            replay=session.replay,
            code=session.status(),
            lrs=tuple(session.next_lrs),
            lr=session.lr,
            line=session.line if begun else None,
            ops=tuple(self._untold),
            losses=tuple(losses),
            committed_step=session.committed_step,
            total_step=session.total_step,
            done_reason=session.done_reason,
            detached=session.detached,
        )

    def _take(self, act: Callable[[], Turn]) -> Turn:
        """Rank 0 acts; its turn is everybody's."""
        turn = self._together(act)
        self._turn, self._since = turn, 0
        if turn.line is not None:
            self._line, self._ops, self._untold = turn.line, list(turn.ops), []
        return turn

    def _together(self, act: Callable[[], T]) -> T:
        """What `act` gives on rank 0, or the error that it raises there."""
        if self._channel.rank == 0:
            try:
                value = act()
            except BaseException as error:
                self._channel.broadcast(Raised(error))
                raise
            self._channel.broadcast(value)
            return value
        told: Any = self._channel.broadcast(None)
        if isinstance(told, Raised):
            raise told.error()
        return told  # type: ignore[no-any-return]
