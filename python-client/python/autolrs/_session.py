"""The part of a schedule that knows no framework: it follows the native session's directives.

A framework's class gives it two things: `Slots` (copies of the trainer's state) and `_apply_lr`. In return it gets
the order in which they are used: slot operations first, then the LR, then the next step.
"""

from __future__ import annotations

import os
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from autolrs import _core
from autolrs._exceptions import AutoLRSWarning, CheckpointMismatch, Error, OpenRefused, SessionActive
from autolrs._history import SEARCH_PHASE, History
from autolrs._loader import Mark, Replay, Stream, open_stream
from autolrs._spec import Request

Self = TypeVar("Self", bound="BaseSchedule")

# What `_core.Session.record`, `tick` and `status` answer.
GO_ON, LR_CHANGED, ENDED, WANT_LOSSES = 0, 1, 2, 3

STATE_VERSION = 1
CLOSE_TIMEOUT = 10.0
EXIT_TIMEOUT = 2.0


class Slots(Protocol):
    """Named copies of the trainer's state."""

    def save(self, name: str) -> None:
        """Copies the live state."""

    def restore(self, name: str) -> None:
        """Puts the copy back into the live state."""

    def drop(self, name: str) -> None:
        """Frees the copy."""

    def names(self) -> list[str]:
        """The slots that hold something."""

    def content(self, name: str) -> dict[str, Any]:
        """What a checkpoint file keeps of the slot."""

    def adopt(self, name: str, content: dict[str, Any]) -> None:
        """Makes `content` both the slot and the live state."""


class BaseSchedule(ABC):
    """One trainer's schedule; see `autolrs.torch.Schedule`."""

    def __init__(self, request: Request, slots: Slots) -> None:
        self._request = request
        self._slots = slots
        self._history = History()
        self._slot_marks: dict[str, int] = {}
        self._replay: Replay | None = None
        self._start = Mark()
        self._adopted: str | None = None
        self._ops: list[tuple[str, str]] = []
        self._refused: OpenRefused | None = None
        self._session: _core.Session | None = None
        self._live = False
        self._waiting = False
        self._entered_at = 0
        self._told_spent = False
        self._phase = ""
        self._lr = 0.0
        self._pid = os.getpid()

    # -- what a framework provides

    @abstractmethod
    def _apply_lr(self, lr: float) -> None:
        """Puts `lr`, the LR of the largest group, into every group."""

    @abstractmethod
    def _pending_losses(self) -> list[float]:
        """The losses that have not reached the session yet, in order."""

    # -- opening

    def _open(self, resume: bytes | None = None) -> None:
        """Opens the session. A refusal without a checkpoint is kept: `load_state_dict` may still bring one."""
        self._refused = None
        try:
            self._session = self._connect(resume)
        except OpenRefused as refusal:
            if resume is not None:
                raise
            self._refused = refusal
            return
        session, pid = self._session, self._pid
        self._finalizer = weakref.finalize(self, _close_at_exit, session, pid)
        self._record, self._tick = session.record, session.tick
        self._enter()

    def _connect(self, resume: bytes | None) -> _core.Session:
        try:
            return self._new_session(resume, self._request.takeover)
        except SessionActive as active:
            if not (active.same_host and not _alive(active.pid)):
                raise
            return self._new_session(resume, takeover=True)

    def _new_session(self, resume: bytes | None, takeover: bool) -> _core.Session:
        request = self._request
        return _core.Session(
            server=request.server,
            token=request.token,
            job=request.job,
            spec=request.spec,
            resume=resume,
            takeover=takeover,
            restart=request.restart and resume is None,
            on_outage=request.on_outage,
            connect_timeout=request.connect_timeout,
            decision_timeout=request.decision_timeout,
            replay=True,
            switch_every=request.switch_every,
        )

    def _open_session(self) -> _core.Session:
        """The session; raises the refusal that was kept."""
        if self._refused is not None:
            raise self._refused
        if self._session is None:
            raise Error("The schedule is not open.")
        if os.getpid() != self._pid:
            raise Error("A Schedule can't be used in a forked process: make it in the process that trains.")
        return self._session

    # -- following directives

    def _after_step(self, code: int) -> None:
        """A step was answered with something else than GO_ON."""
        session = self._open_session()
        if code == WANT_LOSSES:
            session.losses(self._ripe_losses())
            code = session.status()
        if code == ENDED:
            self._deliver_all()
            self._advance()
        else:
            self._set_lr(session.lr)

    def _ripe_losses(self) -> list[float]:
        """The losses that are due at a switch point."""
        return self._pending_losses()

    def _deliver_all(self) -> None:
        pending = self._pending_losses()
        if pending and self._session is not None:
            self._session.losses(pending)

    def _advance(self) -> None:
        """Waits for the next directive. If the wait is interrupted, `steps` waits again before its next batch."""
        self._live = False
        self._waiting = True
        self._open_session().next()
        self._waiting = False
        self._enter()

    def _enter(self) -> None:
        """A new directive is in force: slots, then the stream of batches, then the LR."""
        session = self._open_session()
        self._say_warnings()
        self._ops = session.take_slot_ops()
        self._phase = session.phase
        for op, slot in self._ops:
            self._slot_op(op, slot)
        if self._replay is not None:
            self._replay.follow(self._ops, self.searching, session.replay)
        self._history.begin(session.seq, session.phase, session.total_step)
        self._set_lr(session.lr)
        self._entered_at = self._history.mark()
        self._live = not session.done

    def _slot_op(self, op: str, slot: str) -> None:
        if op == "save":
            self._slots.save(slot)
            self._slot_marks[slot] = self._history.mark()
        elif op == "drop":
            self._slots.drop(slot)
            self._slot_marks.pop(slot, None)
        elif slot in self._slots.names():
            self._slots.restore(slot)
            self._history.lose(self._slot_marks[slot])
        else:
            raise Error(f"The schedule asks for slot {slot}, which this process does not hold.")

    def _set_lr(self, lr: float) -> None:
        self._lr = lr
        self._apply_lr(lr)

    @property
    def _unstarted(self) -> bool:
        """Whether no step of the directive in force has been run by this process."""
        return self._history.mark() == self._entered_at

    def _refresh(self) -> None:
        """Steps begin now: what the user loaded since the directive came belongs into its saves, our LR on top."""
        if self._unstarted:
            for op, slot in self._ops:
                if op == "save":
                    self._slots.save(slot)
            self._set_lr(self._lr)

    def _not_live(self) -> None:
        """A step was reported while none was expected."""
        self._open_session()
        if self._waiting:
            raise Error(
                "The wait for the server's answer was interrupted: this step belongs to no schedule. "
                "Go on with schedule.steps(), which waits again."
            )
        if not self._told_spent:
            self._told_spent = True
            self._warn(f"The schedule is done ({self.done_reason}); further steps are not recorded.")

    # -- the user's side

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self.close(CLOSE_TIMEOUT if kind is None else EXIT_TIMEOUT)

    def steps(self, loader: Any, accumulate: int = 1, replay: str = "auto", replay_mb: float = 256) -> Iterator[Any]:
        """Batches for one optimizer step each, pass after pass over the loader, until the budget is spent.

        Parameters
        ----------
        loader : iterable, or function
            A DataLoader, a list, anything that can be iterated again; or a function `loader(position)` that gives
            an iterator from that batch on (also used to go on there after a restart).
        accumulate : int
            With more than 1, lists of that many batches: gradient accumulation.
        replay : "auto" or "off"
            Whether trials see the same batches: a loader with `state_dict` and a function are rewound, else the
            batches of a trial are kept in memory.
        replay_mb : float
            Limit for that memory; beyond it, trials see different batches.
        """
        session = self._open_session()
        start = self._start
        if self._replay is not None:
            start = replace(self._replay.mark(None), state=None)
        stream = open_stream(loader, accumulate, replay, replay_mb, start)
        self._refresh()
        self._replay = Replay(stream, on=replay == "auto")
        if self._adopted is not None:
            self._replay.set_mark(self._adopted, start)
        ops = self._ops if self._unstarted else []
        self._replay.follow(ops, self.searching, session.replay)
        return self._batches(stream)

    def _batches(self, stream: Stream) -> Iterator[Any]:
        while True:
            if self._waiting:
                self._advance()
            if self.done:
                return
            yield stream.draw()

    def validation(self, loss: float) -> None:
        """Reports a validation loss of the current weights."""
        self._open_session().validation(float(loss))

    @property
    def job(self) -> str:
        """Name of the job."""
        return self._request.job

    @property
    def searching(self) -> bool:
        """Whether the next step is part of a trial: don't evaluate, log or checkpoint the weights of one."""
        return self._phase == SEARCH_PHASE

    @property
    def phase(self) -> str:
        """ "warmup", "trial", "stable", "cooldown" or "done"."""
        return self._phase

    @property
    def lr(self) -> float:
        """LR of the next step (of the group with the largest one)."""
        return self._lr

    @property
    def committed_step(self) -> int:
        """Steps that the weights have behind them."""
        return self._open_session().committed_step

    @property
    def total_step(self) -> int:
        """Steps run so far: committed, search and lost."""
        return self._open_session().total_step

    @property
    def done(self) -> bool:
        """Whether the budget is spent (or the job was cancelled, or has failed: `done_reason`)."""
        return self._open_session().done

    @property
    def done_reason(self) -> str | None:
        """ "finished", "cancelled", "failed: ..."; None while training."""
        return self._open_session().done_reason

    @property
    def detached(self) -> bool:
        """Whether training runs on its fallback because the server does not answer."""
        return self._open_session().detached

    @property
    def history(self) -> History:
        """Every step: number, directive, phase, LR, loss, and whether it was kept."""
        return self._history

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draws LR and loss over the steps into a png, svg or pdf file (needs matplotlib)."""
        from autolrs._plot import draw

        return draw(self._history, Path(path), title=self.job)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Delivers what is still to be reported, for at most `timeout` seconds, and leaves the job."""
        if self._session is None or os.getpid() != self._pid:
            return
        self._deliver_all()
        self._finalizer.detach()
        delivered = self._session.flush(timeout)
        self._session.close(timeout if delivered else 0.0)
        self._live = False
        if not delivered:
            self._warn("The server did not take the last losses; a resumed run will report them.")
        self._say_warnings()

    # -- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint file needs to go on here.

        During a search it holds the state of model and optimizer at the search's start: loading it puts them back
        there and the search starts again.
        """
        session = self._open_session()
        self._deliver_all()
        core = session.export_state()
        slot = session.export_slot()
        mark = self._replay.mark(slot) if self._replay is not None else self._start
        return {
            "version": STATE_VERSION,
            "job": self.job,
            "core": core,
            "slot": slot,
            "content": self._slots.content(slot) if slot is not None else None,
            "stream": [mark.position, mark.number_of_pass, mark.state],
            "history": self._history.state(self._slot_marks.get(slot) if slot is not None else None),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Load model and optimizer from the same checkpoint before.

        If it was taken during a search, model and optimizer are put back to the search's start: what the file
        holds of them is half-way through a trial.
        """
        if state.get("version") != STATE_VERSION:
            raise CheckpointMismatch(
                f"This checkpoint of a schedule has version {state.get('version')!r}; this release reads "
                f"version {STATE_VERSION}."
            )
        if self._session is not None:
            self._finalizer.detach()
            self._session.close(EXIT_TIMEOUT)
            self._session = None
        self._request = replace(self._request, job=state["job"])
        for name in self._slots.names():
            self._slots.drop(name)
        self._history.load(**state["history"])
        self._slot_marks.clear()
        self._start = Mark(*state["stream"])
        self._replay = None
        self._adopted = state["slot"]
        if self._adopted is not None:
            self._slots.adopt(self._adopted, state["content"])
            self._slot_marks[self._adopted] = self._history.mark()
        self._open(resume=state["core"])

    def __reduce__(self) -> Any:
        raise TypeError(
            "A Schedule can't be pickled or sent to another process: it holds the connection of this one. Save "
            "schedule.state_dict() instead."
        )

    # -- telling the user

    def _say_warnings(self) -> None:
        if self._session is not None:
            for message in self._session.warnings():
                self._warn(message)

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, AutoLRSWarning, stacklevel=4)


def _close_at_exit(session: _core.Session, pid: int) -> None:
    if os.getpid() == pid:
        session.close(EXIT_TIMEOUT)


def _alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
