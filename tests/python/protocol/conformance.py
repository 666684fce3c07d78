"""The toy problem of `autolrs conformance --client` with the client written from `proto/` alone. It can be made to do
something wrong, which the kit must find: TOY_FAULT names what."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protocol.client import Trainer
from protocol.wire import Api, Refused, message, name

PATIENCE = float(os.environ.get("AUTOLRS_DECISION_TIMEOUT", "120"))
FAULT = os.environ.get("TOY_FAULT", "")
FLUSH = 10.0
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Silence(Exception):
    """No answer within the decision time-out."""


class Parted(Exception):
    """The server will not hear this trainer any more."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Toy:
    """The training: one weight."""

    def __init__(self) -> None:
        self.weight = 1.0
        self._pause = float(os.environ.get("AUTOLRS_STEP_SECONDS", "0"))
        self._late = 0.0

    def state(self) -> float:
        return self.weight

    def load(self, state: float) -> None:
        if FAULT != "no restore":
            self.weight = state

    def step(self, batch: int, lr: float) -> float:
        time.sleep(self._pause)
        loss = math.nan if self.weight > 1e6 else self.weight + batch / 1000
        if FAULT == "late lr":
            lr, self._late = self._late, lr
        self.weight += lr
        return 1e9 if FAULT == "number for nan" and math.isnan(loss) else loss

    def validation_loss(self) -> float:
        return 0.0 if FAULT == "wrong validation" else self.weight


class Patient:
    """The methods, tried again while the server is away."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __getattr__(self, method: str) -> Any:
        def call(patience: float = PATIENCE, **fields: Any) -> Any:
            until, pause = time.monotonic() + patience, 0.05
            while True:
                if FAULT == "another nonce" and method == "OpenSession":
                    fields["nonce"] = str(time.monotonic())
                if FAULT == "no nonce" and method == "OpenSession":
                    fields["nonce"] = ""
                try:
                    return getattr(self._api, method)(**fields)
                except grpc.RpcError as error:
                    refused = Refused(error)
                    if refused.code not in PASSING or FAULT == "no retry":
                        raise Parted(refused.reason or refused.text) from error
                    if refused.retry is not None:
                        pause = refused.retry.ToTimedelta().total_seconds()
                    if time.monotonic() + pause > until:
                        raise Silence from error
                time.sleep(pause)
                pause = min(2 * pause, 1.0)

        return call


class ToyTrainer(Trainer):
    """With what a client needs beyond a network that never fails: patience, the fallback, the end."""

    def __post_init__(self) -> None:
        self.pending: list[Any] = []
        self.alone = False
        super().__post_init__()

    def send(self, report: Any) -> Any:
        while self.pending:
            self.api.Advance(report=self.pending[0])
            del self.pending[0]
        if FAULT == "passes rungs" and report.at_rung:
            return message("Ack", go_on=len(self.losses))
        for _ in range(100):
            ack = self.api.Advance(report=report).ack
            if FAULT == "no interrupt":
                ack.ClearField("interrupt")
            ended = ack.HasField("directive") or ack.HasField("go_on")
            if ended or not (report.finished or report.at_rung) or FAULT == "no resend":
                return ack
        raise AssertionError("an end that is not answered")

    def _report(self, first: int, **end: Any) -> Any:
        report = super()._report(first, **end)
        if FAULT == "one loss less" and report.finished:
            del report.train_losses[-1]
        return report

    def _operate(self, ops: Any) -> None:
        super()._operate(reversed(list(ops)) if FAULT == "slots backwards" else ops)

    def advance(self) -> bool:
        if self.alone:
            return self._alone()
        try:
            return super().advance()
        except Silence:
            self.pending.append(self._end_report())
            return self._fall_back()
        except Parted as parted:
            if FAULT == "speaks after a refusal":
                self.api.Advance(report=message("Report", job=self.job, session=self.session, seq=1))
            self.alone = True
            return parted.reason == "FENCED" and self._fall_back()

    def _end_report(self) -> Any:
        return self._report(0, finished=True, **self.end)

    def _fall_back(self) -> bool:
        if not self.directive.HasField("fallback") or FAULT == "no fallback":
            self._flush()
            return False
        stopped = "stopped_because" in self.end and FAULT != "never mind the stop"
        on_stop = stopped and self.directive.HasField("fallback_on_stop")
        self.directive = self.directive.fallback_on_stop if on_stop else self.directive.fallback
        return True

    def _alone(self) -> bool:
        self._operate(self.directive.slot_ops)
        self._train()
        return False

    def _flush(self) -> None:
        if self.pending and FAULT != "no fallback":
            last = self.pending.pop()
            until = time.monotonic() + FLUSH
            while time.monotonic() < until:
                try:
                    self.send(last)
                    return
                except Silence:
                    continue


def main() -> None:
    api = Api(os.environ["AUTOLRS_SERVER"].removeprefix("http://"))
    job = os.environ["AUTOLRS_JOB"]
    nonce = {"nonce": f"{os.getpid()}-{time.monotonic_ns()}"}
    ToyTrainer(Patient(api), job, Toy(), nonce, validate=True).run()


if __name__ == "__main__":
    assert name("Phase", 2) == "PHASE_TRIAL"
    main()
