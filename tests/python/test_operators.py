"""Operators at the command line change a real training in flight."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import trainer
from conftest import Server, server_binary

import autolrs.torch as autolrs


def jobs(server: Server, *arguments: str) -> str:
    """What `autolrs jobs` prints."""
    command = [str(server_binary()), "jobs", *arguments, "--server", f"http://{server.address}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported(server: Server, job: str) -> list[float]:
    table = jobs(server, "export", job, "--output", "csv").splitlines()[1:]
    return [float(line.split(",")[1]) for line in table]


def groups(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("device", [False, True])
def test_a_new_lr_and_budget_take_effect_at_a_switch_point(server: Server, device: bool) -> None:
    model, optimizer = trainer.make()
    options = {"server": server.address, "job": "toy", "device_losses": device}
    asked_at = None
    with autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, **options) as schedule:
        for batch in schedule.steps(trainer.batches):
            if schedule.phase == "stable" and schedule.committed_step >= 150 and asked_at is None:
                asked_at = len(schedule.history)
                said = jobs(server, "update", "toy", "--lr", "0.004", "--total-steps", "1000", "--label", "team=a")
                assert "switch point" in said
            loss = trainer.train_step(model, optimizer, batch)
            lr = schedule.lr
            assert groups(optimizer) == pytest.approx([lr, lr / 2, 0.0], rel=1e-12)
            schedule.step(loss)
    assert asked_at is not None and schedule.done and len(schedule.history) == 1000
    lrs = [lr for _, lr in trainer.lrs(schedule)]
    switch = lrs.index(0.004)
    before = lrs[asked_at]
    assert before != 0.004 and set(lrs[asked_at:switch]) == {before}
    # The update is heard of with the answer to a report, at most a second later.
    directive_start = next(i for i in range(switch - 1, 0, -1) if lrs[i] != before) + 1
    assert not device or switch > directive_start
    assert set(lrs[switch:600]) == {0.004}, "held until the new budget's cooldown"
    assert lrs[600:] == sorted(lrs[600:], reverse=True) and lrs[600] < 0.004
    job = json.loads(jobs(server, "show", "toy", "--output", "json"))
    assert job["total_steps"] == 1000 and job["labels"] == {"team": "a"}
    searched = sum(step.phase == "trial" for step in schedule.history)
    assert exported(server, "toy") == pytest.approx(lrs[searched:], rel=1e-15)
