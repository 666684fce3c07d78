"""A server that is frozen under a real training, which goes on with its fallback to a cooled end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import trainer
from conftest import Server, server_binary

import autolrs.torch as autolrs

PHASES = [("trial", 30), ("stable", 133)]
DECISION_TIMEOUT = 2.0


class Training:
    """The trainer of `trainer.py`, under whose feet the server is frozen once."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.server = server
        self.model, self.optimizer = trainer.make()
        self.schedule = autolrs.Schedule(
            self.optimizer, self.model, trainer.TOTAL_STEPS, server=server.address, job="toy", **options
        )

    def steps(self, phase: str, into: int) -> Iterator[None]:
        """Trains to the end; the server is frozen after `into` steps within the phase."""
        count = 0
        for batch in self.schedule.steps(trainer.batches):
            self.schedule.step(trainer.train_step(self.model, self.optimizer, batch))
            count += self.schedule.phase == phase
            if count == into:
                self.server.send(signal.SIGSTOP)
                count += 1
            yield


@pytest.fixture
def thawed(server: Server) -> Iterator[Server]:
    """A server that is thawed, whatever the test does: a frozen one can't be asked or ended in order."""
    yield server
    server.send(signal.SIGCONT)


def job(server: Server, name: str) -> dict[str, Any]:
    command = [str(server_binary()), "jobs", "show", name, "--output", "json", "--server", f"http://{server.address}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize(("phase", "into"), PHASES)
@pytest.mark.parametrize("back", ["within the fallback", "after the end"])
def test_a_frozen_server_is_done_without(thawed: Server, phase: str, into: int, back: str) -> None:
    reference, reference_model = trainer.undisturbed(thawed.address, "undisturbed")
    training = Training(thawed, decision_timeout=DECISION_TIMEOUT)
    schedule, since = training.schedule, None
    with schedule, pytest.warns(autolrs.AutoLRSWarning, match="fallback"):
        for _ in training.steps(phase, into):
            if schedule.detached and since is None:
                since = schedule.total_step
            if since is not None and schedule.total_step == since + 10 and back == "within the fallback":
                thawed.send(signal.SIGCONT)
        assert schedule.done
        if back == "after the end":
            assert schedule.detached
            thawed.send(signal.SIGCONT)
    lrs = trainer.lrs(schedule)
    assert since is not None and lrs[: since - 1] == reference[: since - 1]
    assert len(lrs) == trainer.TOTAL_STEPS
    peak = max(lr for _, lr in lrs[since:])
    assert lrs[-1][1] < peak / 20, "it was cooled"
    if phase == "stable":
        assert lrs == reference, "the fallback of a stable phase is what was planned"
        pairs = zip(training.model.state_dict().values(), reference_model.state_dict().values())
        assert all(torch.equal(a, b) for a, b in pairs)
    shown = job(thawed, "toy")
    assert shown["state"] == "finished"
    assert shown["steps"]["committed"] + shown["steps"]["search"] == trainer.TOTAL_STEPS
    assert any("fallback" in warning for warning in shown["warnings"])


@pytest.mark.parametrize(("phase", "into"), PHASES)
def test_an_error_is_raised_if_asked_for(thawed: Server, phase: str, into: int) -> None:
    training = Training(thawed, decision_timeout=DECISION_TIMEOUT, on_outage="raise")
    with pytest.raises(autolrs.ServerUnavailable, match=thawed.address):
        for _ in training.steps(phase, into):
            assert not training.schedule.detached
    assert training.schedule.total_step < trainer.TOTAL_STEPS
    thawed.send(signal.SIGCONT)
    training.schedule.close()
