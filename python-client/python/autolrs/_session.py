"""A schedule as its user sees it, whatever the framework; see `autolrs.torch.Schedule`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from autolrs import _core
from autolrs._exceptions import CheckpointMismatch, Error
from autolrs._follow import EXIT_TIMEOUT, Follower, Unheard
from autolrs._history import SEARCH_PHASE, History
from autolrs._progress import Progress
from autolrs._ranks import RankedSession
from autolrs._replay import Replay
from autolrs._saved import write
from autolrs._spec import budget_of
from autolrs._steps import Steps
from autolrs._streams import Mark, Stream, open_stream

Self = TypeVar("Self", bound="BaseSchedule")

STATE_VERSION = 2
CLOSE_TIMEOUT = 10.0


class BaseSchedule(Follower):
    """What the schedules of all frameworks have in common."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self.close(CLOSE_TIMEOUT if kind is None else EXIT_TIMEOUT)

    def steps(self, loader: Any, accumulate: int = 1, replay: str = "auto", replay_mb: float = 256) -> Steps:
        """Batches for one optimizer step each, pass after pass over the loader, until the job is done: when the
        budget is spent, or after `finish()` and its cooldown. No loop over epochs is needed around it. Where the budget
        is known, `len` of the loop is too, so progress bars such as tqdm work. To go on after an interrupt
        call `steps` again; with the same loader, trials still see the batches that those before them saw.

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
        if self._closed and not session.done:
            raise Error(
                "The schedule was closed before its job was done; leaving its `with` block closes it. To go on, make a "
                "new one with resume=schedule.state_dict() of this one."
            )
        again = (
            self._replay is not None and self._asked[0] is loader and self._asked[1:] == (accumulate, replay, replay_mb)
        )
        self._asked = (loader, accumulate, replay, replay_mb)
        if again and self._replay is not None:
            stream = self._replay.stream
            stream.restart()
            self._refresh()
            return self._loop_over(stream)
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
        return self._loop_over(stream)

    def _loop_over(self, stream: Stream) -> Steps:
        budget = budget_of(self._request.spec)
        return Steps(self, stream, None if budget is None else max(0, budget - self.total_step))

    def _begin_steps(self) -> None:
        """The first batch of a loop is about to be drawn."""
        if self._live:
            self._settle()
        elif self.done and not self._waiting:
            self._warn(
                f"The schedule is done ({self.done_reason}): steps() gives no batch. To train again make a new "
                "Schedule, with restart=True or another name."
            )

    def _begin_loop(self) -> None:
        """The first step of a loop that a framework owns is about to be made."""
        self._refresh()
        self._begin_steps()

    def _report(self, loss: float) -> None:
        """One step was run, with this loss, which is on the host: sets the LR of the next, or the next directive."""
        if not self._live:
            self._not_live()
            return
        code = self._record(loss)
        self._history.add_loss(loss)
        self._history.add_lr(self._lr)
        if code:
            self._after_step(code)

    def validation(self, loss: float) -> None:
        """Reports a validation loss of the current weights, whenever you have measured one.

        It is shown with the job, and the ground of a warning when training and validation loss part. For a search that
        goes by the validation loss give the schedule `validate=` instead: then it is measured where it is needed.
        """
        self._open_session().validation(float(loss))

    def finish(self, cooldown_steps: int | None = None) -> None:
        """Ends the job in order: lets the LR fall over `cooldown_steps`, after which the schedule is done.

        Go on with the loop until then. For a run whose end was not known before: `total_steps=None`, and here about
        40 % of all steps are well spent. Returns at once; the cooldown begins at the next switch point. Called in a
        search, it gives up what the trials did: the initial state is put back, and trained with what was measured.

        Parameters
        ----------
        cooldown_steps : int, optional
            Default: 2/3 of the committed steps, or what is left of the budget; in a search 0.

        Raises
        ------
        ServerUnavailable
            The server is away: nothing has changed, training goes on. Call it again later.
        """
        self._open_session().finish(None if cooldown_steps is None else int(cooldown_steps))

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
        """Draws LR and loss over the steps into `path`, a png, svg or pdf file (needs matplotlib); gives it back."""
        from autolrs._plot import draw

        return draw(self._history, Path(path), title=self.job)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Writes the LR of every step that was kept so far to `path`: JSON, or a table `step,lr` if it ends in .csv.

        `autolrs.replay` and `policy="replay"` train with it again. `autolrs jobs export` writes the same.
        """
        session = self._open_session()
        parts = self._history.kept()
        if sum(steps for _, steps in parts) != session.committed_step:
            raise Error(f"This process does not know every step of the job. Use: autolrs jobs export {self.job}")
        if not session.committed_step:
            raise Error("There is nothing to export: no step has been kept yet.")
        policy = str(self._request.spec["policy"])
        line = _core.Line.joined(parts, job=self.job, uid=session.uid, policy=policy, state=self._state())
        return write(line, Path(path))

    def _progress(self) -> Progress:
        session, budget = self._session, budget_of(self._request.spec)
        if session is None:
            note = f"refused: {self._refused}"
            return Progress(self.job, self._phase or "not open", self._lr, 0, budget, note)
        away = "the server does not answer, training goes on" if session.detached else ""
        note = session.done_reason or ("closed" if self._closed else away)
        return Progress(self.job, self._phase, self._lr, session.total_step, budget, note)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._progress().line()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self._progress().table(self._history)

    def _state(self) -> str:
        """The job's state by the service's name for it."""
        reason = self.done_reason
        if reason is not None:
            return reason.partition(":")[0]
        if self.detached:
            return "detached"
        return {SEARCH_PHASE: "searching", "cooldown": "cooling"}.get(self._phase, "training")

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Delivers what is still to be reported, for at most `timeout` seconds, and leaves the job."""
        if self._session is None or os.getpid() != self._pid:
            return
        if self._channel is None:  # else the other ranks may be elsewhere, or gone
            self._deliver_all()
        self._finalizer.detach()
        delivered = self._session.flush(timeout)
        self._session.close(timeout if delivered else 0.0)
        self._live = False
        self._closed = True
        if not delivered:
            self._warn("The server did not take the last losses; a resumed run will report them.")
        self._say_warnings()

    # -- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint file needs to go on here.

        During a search it holds the state of model and optimizer at the search's start: loading it puts them back
        there and the search starts again. Of several processes save rank 0's, at any time, and load it on every rank.
        """
        session = self._open_session()
        unheard: Unheard | None = None
        if isinstance(session, RankedSession):
            core = session.export_delivered()
            unheard = (session.seq, session.delivered, self._unheard_losses())
        else:
            self._deliver_all()
            core = session.export_state()
        slot = session.export_slot()
        mark = self._replay.mark(slot) if self._replay is not None else self._start
        return {
            "version": STATE_VERSION,
            "job": self.job,
            "core": core,
            "unheard": None if unheard is None or slot is not None else list(unheard),
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
        if not state["core"]:
            raise CheckpointMismatch(
                "This state of a schedule was taken on another rank than 0, which holds none: save rank 0's, and load "
                "it on every rank."
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
        self._slot_origins.clear()
        self._start = Mark(*state["stream"])
        self._replay = None
        self._adopted = state["slot"]
        if self._adopted is not None:
            self._slots.adopt(self._adopted, state["content"])
            self._slot_marks[self._adopted] = self._history.mark()
        unheard = state.get("unheard")
        for loss in unheard[2] if unheard is not None else ():
            self._history.add_loss(loss)
        self._open(state["core"], unheard)

    def __reduce__(self) -> Any:
        raise TypeError(
            "A Schedule can't be pickled or sent to another process: it holds the connection of this one. Save "
            "schedule.state_dict() instead."
        )
