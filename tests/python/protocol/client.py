"""A trainer that speaks the protocol as the proto's comments define it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from protocol.network import Network
from protocol.rules import first_match, lr_line, switch_point
from protocol.wire import Api, message, name

# Losses in a report that does not end a directive.
REPORT_EVERY = 40


@dataclass
class Step:
    """A step that was run."""

    seq: int
    phase: str
    lr: float
    loss: float


@dataclass
class Trainer:
    """Trains a network through the directives of a job."""

    api: Api
    job: str
    network: Network = field(default_factory=Network)
    open: dict[str, Any] = field(default_factory=dict)
    replay: bool = True
    validate: bool = False
    # Called before every report that does not end a directive, with the trainer.
    on_report: Callable[[Trainer], None] | None = None

    def __post_init__(self) -> None:
        self.line: list[Step] = []
        # The LR of every step that is kept.
        self.kept: list[float] = []
        # The same of the trial's steps that the weights hold: kept if training goes on from its end.
        self.tried: list[float] = []
        self.slots: dict[int, Any] = {}
        self.fresh = self.position = 0
        self.interrupts: list[tuple[int, int]] = []
        self.losses: list[float] = []
        self.validations: list[Any] = []
        self.done: Any = None
        # What the last report of the directive says of its end.
        self.end: dict[str, Any] = {}
        holder = message("Holder", host="elsewhere", pid=4711)
        capabilities = message("Capabilities", replay=self.replay, validate=self.validate)
        self.opened = self.api.OpenSession(job=self.job, holder=holder, capabilities=capabilities, **self.open)
        self.session, self.every = self.opened.session, self.opened.switch_every
        self.directive = self.opened.directive
        self._operate(self.opened.slot_ops)

    def run(self) -> Trainer:
        """Trains until the job is done."""
        while self.advance():
            pass
        return self

    def advance(self) -> bool:
        """Carries out the directive and takes the next; false at the end of the job."""
        self._operate(self.directive.slot_ops)
        if self.directive.WhichOneof("action") == "done":
            self.done = self.directive.done
            return False
        directive = self.directive
        self.losses, self.validations = [], []
        self.end, ack = self._train()
        if ack is None:
            ack = self.send(self._report(0, finished=True, **self.end))
        assert ack.HasField("directive") and ack.seq == directive.seq, "an end is answered with what follows it"
        assert ack.directive.seq > directive.seq and ack.directive.session == self.session
        self.directive = ack.directive
        return True

    def _train(self) -> tuple[dict[str, Any], Any]:
        """Runs the segment; what the last report says of its end, or the answer that ended it at a rung."""
        run, losses = self.directive.run, self.losses
        lrs, phase = lr_line(run.lr), name("Phase", run.phase)
        assert [rule for rule in run.stop_if if rule.WhichOneof("rule") == "non_finite"]
        end, stopped, interrupt, sent = len(lrs), None, None, 0
        rungs = {switch_point(rung, self.every, end) for rung in run.rungs} - {end}
        if name("Run.Batches", run.batches) == "BATCHES_REPLAY":
            assert self.replay, "replay was not offered"
        while len(losses) < end:
            loss = self.network.step(self.position, lrs[len(losses)])
            self.position += 1
            self.fresh = max(self.fresh, self.position)
            self.line.append(Step(self.directive.seq, phase, lrs[len(losses)], loss))
            (self.tried if phase == "PHASE_TRIAL" else self.kept).append(lrs[len(losses)])
            losses.append(loss)
            if stopped is None:
                stopped = first_match(run.stop_if, losses)
                if stopped is not None:
                    end = switch_point(stopped[1], self.every, len(lrs))
            if len(losses) in run.validate_at and (stopped is None or len(losses) < end):
                assert self.validate, "validations were not offered"
                measured = message("Validation", offset=len(losses), loss=self.network.validation_loss())
                self.validations.append(measured)
            if len(losses) in rungs and stopped is None:
                ack = self.send(self._report(0, at_rung=True))
                if ack.HasField("directive"):
                    return {}, ack
                assert ack.go_on == len(losses), "at a rung the answer is a directive or the word to go on"
            if len(losses) % REPORT_EVERY == 0 and len(losses) < end:
                if self.on_report is not None:
                    self.on_report(self)
                ack = self.send(self._report(sent))
                sent = ack.received_through
                interrupt = ack.interrupt if ack.HasField("interrupt") else interrupt
            if interrupt is not None and stopped is None and len(losses) % self.every == 0 and len(losses) < end:
                self.interrupts.append((self.directive.seq, len(losses)))
                return {"stopped_because": message("StoppedBecause", interrupt=interrupt)}, None
        if stopped is None:
            return {}, None
        rule = message("StoppedBecause.StopRule", rule=stopped[0], offset=stopped[1])
        return {"stopped_because": message("StoppedBecause", stop_rule=rule)}, None

    def _report(self, first: int, **end: Any) -> Any:
        fields = {"job": self.job, "session": self.session, "seq": self.directive.seq, "first_offset": first}
        return message("Report", **fields, train_losses=self.losses[first:], validations=self.validations, **end)

    def send(self, report: Any) -> Any:
        """Sends a report; the answer."""
        return self.api.Advance(report=report).ack

    def _operate(self, ops: Any) -> None:
        restored = None
        for op in ops:
            kind = name("SlotOp.Kind", op.kind)
            if kind == "KIND_SAVE":
                self.slots[op.slot] = (self.network.state(), self.fresh, len(self.kept), list(self.tried))
            elif kind == "KIND_RESTORE":
                state, restored, kept, tried = self.slots[op.slot]
                self.network.load(state)
                del self.kept[kept:]
                self.tried = list(tried)
            else:
                assert kind == "KIND_DROP"
                del self.slots[op.slot]
        self.position = self.fresh
        run = self.directive.run
        if name("Phase", run.phase) != "PHASE_TRIAL":
            self.kept += self.tried
            self.tried = []
        if restored is not None and name("Run.Batches", run.batches) == "BATCHES_REPLAY":
            self.position = restored


class StreamTrainer(Trainer):
    """The same over one `Train` stream."""

    def __post_init__(self) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        self._answers = self.api.Train(self._outgoing())
        super().__post_init__()

    def _outgoing(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request

    def send(self, report: Any) -> Any:
        self._requests.put(message("TrainRequest", report=report))
        sent = report.first_offset + len(report.train_losses)
        for response in self._answers:
            ack = response.ack
            if (
                ack.seq == report.seq
                and ack.received_through >= sent
                and (ack.HasField("directive") or not report.finished)
            ):
                return ack
        raise AssertionError("the stream ended without an answer")

    def run(self) -> Trainer:
        super().run()
        self._requests.put(None)
        return self
