"""Ctrl-C (in a notebook: interrupting the kernel) at any moment, and going on by running the loop again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from conftest import Server
from torch import nn
from trainer import TOTAL_STEPS, batches, lrs, make, train_step, undisturbed

import autolrs.torch as autolrs


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Also where Ctrl-C is ignored: a shell does that for what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    """What Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def fail() -> None:
    raise RuntimeError("out of memory")


class Extra:
    """A part of the training's state whose first restore does something else beside."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens: Callable[[], None] | None = happens
        self.restored: list[str] = []
        self.when_raised: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        happens, self._happens = self._happens, None
        if happens is not None:
            self.restored.append("begun")
            happens()
        self.restored.append("done")


def train_whatever_happens(
    schedule: autolrs.Schedule, model: nn.Module, optimizer: Any, extra: Extra | None = None
) -> list[BaseException]:
    """Runs the loop again, as one runs a cell again, until the job is done; what came out of it before."""
    raised: list[BaseException] = []
    while not schedule.done:
        try:
            for batch in schedule.steps(batches):
                schedule.step(train_step(model, optimizer, batch))
        except (KeyboardInterrupt, RuntimeError) as error:
            raised.append(error)
            if extra is not None:
                extra.when_raised = list(extra.restored)
            assert len(raised) < 5
    return raised


def assert_same(model: nn.Module, other: nn.Module) -> None:
    for name, value in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(("happens", "kind"), [(interrupt, KeyboardInterrupt), (fail, RuntimeError)])
def test_a_restore_that_is_broken_off_is_done(server: Server, happens: Callable[[], None], kind: type) -> None:
    """An interrupt takes effect after the restore; what an error has kept from being done is done at the next loop."""
    expected, trained = undisturbed(server.address, "undisturbed")
    model, optimizer = make()
    extra = Extra(happens)
    schedule = autolrs.Schedule(optimizer, model, TOTAL_STEPS, job="broken-off", server=server.address, also=[extra])
    raised = train_whatever_happens(schedule, model, optimizer, extra)
    assert [type(error) for error in raised] == [kind]
    assert extra.when_raised == (["begun", "done"] if kind is KeyboardInterrupt else ["begun"])
    assert lrs(schedule) == expected
    assert_same(model, trained)
    schedule.close()


def test_an_interrupt_while_validating(server: Server) -> None:
    """The loss that was asked for is measured when the loop begins again."""
    expected, trained = undisturbed(server.address, "undisturbed")
    model, optimizer = make()
    measured = []

    def validate() -> float:
        measured.append(True)
        if len(measured) == 2:
            interrupt()
        return 1.0

    schedule = autolrs.Schedule(
        optimizer, model, TOTAL_STEPS, job="validated", server=server.address, validate=validate
    )
    raised = train_whatever_happens(schedule, model, optimizer)
    assert [type(error) for error in raised] == [KeyboardInterrupt]
    assert len(measured) > 3
    assert lrs(schedule) == expected
    assert_same(model, trained)
    schedule.close()


def test_a_step_that_was_broken_off_is_not_counted(server: Server) -> None:
    model, optimizer = make()
    with autolrs.Schedule(optimizer, model, 60, job="steps", server=server.address, policy="cosine") as schedule:
        with pytest.raises(KeyboardInterrupt):
            for number, batch in enumerate(schedule.steps(batches)):
                if number == 25:
                    interrupt()
                schedule.step(train_step(model, optimizer, batch))
        assert schedule.total_step == 25
        assert train_whatever_happens(schedule, model, optimizer) == []
        assert (schedule.total_step, schedule.done_reason) == (60, "finished")
    assert len(schedule.history) == 60
