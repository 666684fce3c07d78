"""Following the native session's directives; no framework is known here.

A framework's class gives two things: `Slots` (copies of the trainer's state) and `_apply_lr`. They are used in this
order: slot operations first, then the LR, then the next step.
"""

from __future__ import annotations

import os
import warnings
import weakref
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Protocol, Union

from autolrs import _core
from autolrs._exceptions import AutoLRSWarning, Error, OpenRefused, SessionActive
from autolrs._history import SEARCH_PHASE, History
from autolrs._interrupts import uninterrupted
from autolrs._ranks import Channel, RankedSession, common_job
from autolrs._replay import Replay
from autolrs._spec import Request
from autolrs._streams import Mark
from autolrs._trace import traceparent
from autolrs._turn import ENDED, GO_ON, VALIDATE, WANT_LOSSES

Session = Union[_core.Session, RankedSession]

# Seconds that a schedule that was not closed may hold up the interpreter's exit.
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


# Steps of a checkpoint that the other ranks had not spoken of: directive, its losses before them, rank 0's own losses.
Unheard = tuple[int, int, list[float]]


class Follower(ABC):
    """Holds the native session and does what its directives say, in order: slots, batches, LR.

    With a `channel` to other ranks it does so on each of them, at the same steps.
    """

    def __init__(self, request: Request, slots: Slots, channel: Channel | None = None) -> None:
        self._request = request
        self._slots = slots
        self._channel = channel
        self._history = History()
        self._slot_marks: dict[str, int] = {}
        # Where in the history the state of each slot was reached.
        self._slot_origins: dict[str, int] = {}
        self._replay: Replay | None = None
        self._start = Mark()
        # What `steps` was called with: loader, accumulate, replay, replay_mb.
        self._asked: tuple[Any, ...] = (None,)
        self._adopted: str | None = None
        self._ops: list[tuple[str, str]] = []
        # Those of them that an error has kept from being done.
        self._undone: list[tuple[str, str]] = []
        self._refused: OpenRefused | None = None
        self._session: Session | None = None
        self._live = False
        self._waiting = False
        self._closed = False
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
        """The losses that have not reached the session yet, in order; they count as delivered from here on."""

    @abstractmethod
    def _measured_validation(self) -> float:
        """The validation loss of the state at hand, measured without a trace; asked for if the request promised it."""

    # -- opening

    def _open(self, resume: bytes | None = None, unheard: Unheard | None = None) -> None:
        """Opens the session. A refusal without a checkpoint is kept: `load_state_dict` may still bring one."""
        self._refused = None
        if self._channel is not None:
            self._request = replace(self._request, job=common_job(self._channel, self._request.job, resume))
        try:
            self._session = self._new_session(resume, unheard)
        except OpenRefused as refusal:
            if resume is not None:
                raise
            self._refused = refusal
            return
        session, pid = self._session, self._pid
        self._closed = False
        self._finalizer = weakref.finalize(self, _close_at_exit, session, pid)
        self._tick = session.tick
        if not isinstance(session, RankedSession):
            self._record = session.record
        self._enter()

    def _new_session(self, resume: bytes | None, unheard: Unheard | None) -> Session:
        def connect() -> _core.Session:
            session = self._connect(resume)
            if unheard is not None:
                seq, delivered, losses = unheard
                if (session.seq, session.offset) == (seq, delivered):
                    for loss in losses:
                        session.record(loss)
            return session

        if self._channel is None:
            return connect()
        return RankedSession(self._channel, connect)

    def _connect(self, resume: bytes | None) -> _core.Session:
        try:
            return self._native(resume, self._request.takeover)
        except SessionActive as active:
            # A notebook's cell that is run again makes a second schedule in the process that holds the first.
            ours = active.same_host and (active.pid == os.getpid() or not _alive(active.pid))
            if not ours:
                raise
            return self._native(resume, takeover=True)

    def _native(self, resume: bytes | None, takeover: bool) -> _core.Session:
        request = self._request
        return _core.Session(
            server=request.server,
            token=request.token,
            ca=request.ca,
            job=request.job,
            spec=request.spec,
            resume=resume,
            takeover=takeover,
            restart=request.restart and resume is None,
            on_outage=request.on_outage,
            connect_timeout=request.connect_timeout,
            decision_timeout=request.decision_timeout,
            replay=True,
            validate=request.validate,
            switch_every=request.switch_every,
            traceparent=traceparent(),
        )

    def _open_session(self) -> Session:
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
        ripe = False
        while code in (WANT_LOSSES, VALIDATE):
            if code == VALIDATE:
                self._set_lr(session.lr)
                self._validate_now()
            elif not ripe:
                self._deliver(self._ripe_losses())
                ripe = True
            else:  # the end, an operator waits, or a checkpoint has read losses out of turn
                self._deliver_all()
            code = session.status()
        if code == ENDED:
            self._deliver_all()
            self._advance()
        else:
            self._set_lr(session.lr)

    def _settle(self) -> None:
        """A checkpoint was written, or the loop interrupted, where something was to be done before the next step."""
        code = self._open_session().status()
        if code != GO_ON:
            self._after_step(code)

    def _ripe_losses(self) -> list[float]:
        """The losses that are due at a switch point."""
        return self._pending_losses()

    def _unheard_losses(self) -> list[float]:
        """Those of `_pending_losses`, which stay pending."""
        return []

    def _deliver(self, losses: list[float]) -> None:
        """Gives losses to the session, in order. All ranks do so at the same step: their mean counts."""
        session = self._open_session()
        if isinstance(session, RankedSession):
            losses = session.exchange(losses, self._replay is None or self._replay.able)
            if self._replay is not None and not session.can_replay:
                self._replay.give_up()
        else:
            session.losses(losses)
        for loss in losses:
            self._history.add_loss(loss)

    def _deliver_all(self) -> None:
        pending = self._pending_losses()
        if pending and self._session is not None:
            self._deliver(pending)

    def _validate_now(self) -> None:
        """Answers the session, which asks for a validation loss."""
        session = self._open_session()
        if not self._request.validate:
            raise Error("A validation loss is asked for, but the schedule was made without validate=.")
        if isinstance(session, RankedSession):
            session.answer(self._measured_validation)
        else:
            session.validation(self._measured_validation())

    def _advance(self) -> None:
        """Waits for the next directive, or for the word to go on at a rung, and enters it. If that is interrupted, or
        a slot operation raises, `steps` takes it up again before its next batch."""
        self._live = False
        self._waiting = True
        self._open_session().next()
        self._enter()

    def _enter(self) -> None:
        with uninterrupted():
            self._begin_directive()

    def _begin_directive(self) -> None:
        """A new directive is in force: slots, then the stream of batches, then the LR."""
        session = self._open_session()
        self._say_warnings()
        self._ops = self._undone or session.take_slot_ops()
        self._undone = list(self._ops)
        self._phase = session.phase
        origin = self._history.mark()
        for op, slot in self._ops:
            self._slot_op(op, slot)
            self._undone.pop(0)
            if op == "save":
                self._slot_origins[slot] = origin
            elif op == "restore":
                origin = self._slot_origins.get(slot, 0)
        if self._phase != SEARCH_PHASE:
            self._history.keep(origin)
        if self._replay is not None:
            self._replay.follow(self._ops, self._phase == SEARCH_PHASE, session.replay)
        self._history.begin(session.seq, session.phase, session.total_step, session.line)
        self._set_lr(session.lr)
        self._entered_at = self._history.mark()
        self._live = not session.done
        self._waiting = False

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
                "The wait for the server's answer, or what was to be done after it, was interrupted: this step belongs "
                "to no schedule. Go on with schedule.steps(), which takes it up again."
            )
        if not self._told_spent:
            self._told_spent = True
            reason = self._open_session().done_reason
            state = "closed" if reason is None else f"done ({reason})"
            self._warn(f"The schedule is {state}; further steps are not recorded.")

    # -- telling the user

    def _say_warnings(self) -> None:
        if self._session is not None:
            for message in self._session.warnings():
                self._warn(message)

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, AutoLRSWarning, stacklevel=4)


def _close_at_exit(session: Session, pid: int) -> None:
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
