"""A notebook's cell that is run again: the schedule of the same job is still open in this process, closed, or done."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Server
from trainer import TOTAL_STEPS, batches, make, train_step

import autolrs.torch as autolrs

STEPS = 60


def new(server: Server, **options: Any) -> tuple[autolrs.Schedule, Any, Any]:
    """What the cell makes: a new model, its optimizer, and a schedule by the same name."""
    model, optimizer = make()
    options = {"total_steps": STEPS, "job": "cell", "policy": "cosine", "server": server.address, **options}
    return autolrs.Schedule(optimizer, model, **options), model, optimizer


def train(schedule: autolrs.Schedule, model: Any, optimizer: Any, steps: int = STEPS) -> None:
    """The loop, or its first steps."""
    loop = schedule.steps(batches)
    for _, batch in zip(range(steps), loop):
        schedule.step(train_step(model, optimizer, batch))


def test_before_the_first_step(server: Server) -> None:
    """The newer schedule takes over from the older one of the same process, and trains."""
    older, *_ = new(server)
    schedule, model, optimizer = new(server)
    train(schedule, model, optimizer)
    assert (schedule.total_step, schedule.done_reason) == (STEPS, "finished")
    schedule.close()
    older.close()


def test_in_the_middle(server: Server) -> None:
    """The message names the ways out, and each of them is one."""
    scan = {"policy": "scan", "total_steps": TOTAL_STEPS}
    older = new(server, **scan)
    train(*older, steps=100)  # past the ends of directives: the server knows of them
    begun_again, model, optimizer = new(server, **scan)
    with pytest.raises(autolrs.JobInProgress, match="restart=True"):
        begun_again.steps(batches)
    assert "refused" in repr(begun_again)
    train(*older, steps=100)
    assert older[0].total_step == 200 and not older[0].detached, "a refusal takes nothing away"
    restarted, model, optimizer = new(server, restart=True, **scan)
    train(restarted, model, optimizer, TOTAL_STEPS)
    assert (restarted.total_step, restarted.done_reason) == (TOTAL_STEPS, "finished")
    restarted.close()
    older[0].close()


def test_after_the_with_block_was_left(server: Server) -> None:
    """A loop on a closed schedule would train on without its LR being set, for ever: it says how to go on instead."""
    schedule, model, optimizer = new(server)
    with pytest.raises(KeyboardInterrupt), schedule:
        train(schedule, model, optimizer, steps=20)
        raise KeyboardInterrupt
    with pytest.raises(autolrs.Error, match=r"resume=schedule\.state_dict\(\)"):
        schedule.steps(batches)
    with pytest.warns(autolrs.AutoLRSWarning, match="closed"):
        schedule.step(1.0)
    with autolrs.Schedule(
        optimizer, model, STEPS, policy="cosine", server=server.address, resume=schedule.state_dict()
    ) as resumed:
        assert (resumed.job, resumed.total_step) == ("cell", 20)
        train(resumed, model, optimizer)
        assert (resumed.total_step, resumed.done_reason) == (STEPS, "finished")


def test_after_the_end(server: Server) -> None:
    """The loop again: no batch, and a sentence that says why. The whole cell again: the ways out."""
    schedule, model, optimizer = new(server)
    train(schedule, model, optimizer)
    with pytest.warns(autolrs.AutoLRSWarning, match=r"done \(finished\).*restart=True or another name"):
        train(schedule, model, optimizer)
    again, model, optimizer = new(server)
    with pytest.raises(autolrs.JobFinished, match="restart=True"):
        train(again, model, optimizer)
    schedule.close()
