"""A training without a known budget: it goes on until it is finished, from the loop or from the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import trainer
from conftest import Server, server_binary

import autolrs.torch as autolrs

# Makes branches of 50 steps, and a warm-up of 500, after which the LR falls with the cube root of the steps.
EXPECTED = 5000
WARMUP = 500


def train(server: Server, each: Callable[[autolrs.Schedule], None], **options: Any) -> autolrs.Schedule:
    """Trains until the job is done; `each` is called after every step."""
    model, optimizer = trainer.make()
    options |= {"expected_steps": EXPECTED, "job": "open", "server": server.address}
    with autolrs.Schedule(optimizer, model, None, **options) as schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
            each(schedule)
            assert schedule.total_step < 20_000, "nobody ends it"
        assert schedule.done_reason == "finished"
    return schedule


def kept(schedule: autolrs.Schedule, phase: str) -> list[tuple[int, float]]:
    """(number among the kept steps, LR) of a phase."""
    steps = enumerate((step for step in schedule.history if step.kind == "committed"), start=1)
    return [(number, step.lr) for number, step in steps if step.phase == phase]


def assert_follows_the_law(schedule: autolrs.Schedule) -> None:
    number, reached = kept(schedule, "warmup")[-1]
    assert number == WARMUP
    for number, lr in kept(schedule, "stable"):
        assert lr == pytest.approx(reached * (number / WARMUP) ** (-1 / 3), rel=1e-12)


def assert_cools_down(schedule: autolrs.Schedule, steps: int) -> None:
    lrs = [lr for _, lr in kept(schedule, "cooldown")]
    assert len(lrs) == steps
    assert lrs[0] / lrs[-1] == pytest.approx(steps)


def operate(server: Server, *command: str) -> str:
    run = [str(server_binary()), "jobs", *command, "--server", f"http://{server.address}"]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


def test_finished_from_the_loop(server: Server) -> None:
    def each(schedule: autolrs.Schedule) -> None:
        if schedule.phase == "stable" and schedule.committed_step == 750:
            assert "open" in operate(server, "list").splitlines()[1].split()
            schedule.finish(cooldown_steps=90)
            schedule.finish(cooldown_steps=90)

    schedule = train(server, each)
    assert_follows_the_law(schedule)
    assert_cools_down(schedule, 90)
    schedule.finish()


def test_finished_from_the_command_line(server: Server) -> None:
    def each(schedule: autolrs.Schedule) -> None:
        if schedule.phase == "stable" and schedule.committed_step == 750:
            operate(server, "finish", "open")

    schedule = train(server, each)
    assert_follows_the_law(schedule)
    before = len(kept(schedule, "warmup")) + len(kept(schedule, "stable"))
    assert_cools_down(schedule, before * 2 // 3)


def test_a_server_that_is_away_can_be_asked_again(server: Server) -> None:
    def each(schedule: autolrs.Schedule) -> None:
        if schedule.phase != "stable":
            return
        if schedule.committed_step == 750:
            server.kill()
            with pytest.raises(autolrs.ServerUnavailable):
                schedule.finish()
        if schedule.committed_step == 770:
            server.start()
            schedule.finish(cooldown_steps=30)

    schedule = train(server, each)
    assert_follows_the_law(schedule)
    assert_cools_down(schedule, 30)


@pytest.mark.filterwarnings("ignore::autolrs._exceptions.AutoLRSWarning")
def test_goes_on_along_the_law_without_a_server(server: Server) -> None:
    detached = []

    def each(schedule: autolrs.Schedule) -> None:
        if schedule.phase != "stable":
            return
        if schedule.committed_step == 750:
            server.kill()
        detached.append(schedule.detached)
        if schedule.committed_step == 1200:
            server.start()
            schedule.finish(cooldown_steps=60)

    schedule = train(server, each, decision_timeout=0.3)
    assert any(detached)
    assert_follows_the_law(schedule)
    assert_cools_down(schedule, 60)
    assert '"state": "finished"' in operate(server, "show", "open", "--output", "json")


def test_goes_on_from_a_checkpoint(server: Server) -> None:
    saved: dict[str, Any] = {}
    options: dict[str, Any] = {"expected_steps": EXPECTED, "server": server.address}
    model, optimizer = trainer.make()
    schedule = autolrs.Schedule(optimizer, model, None, job="open", **options)
    for batch in schedule.steps(trainer.batches):
        schedule.step(trainer.train_step(model, optimizer, batch))
        if schedule.phase == "stable" and schedule.committed_step == 650:
            saved = schedule.state_dict()
            break
    schedule.close()
    schedule = autolrs.Schedule(optimizer, model, None, resume=saved, **options)
    for batch in schedule.steps(trainer.batches):
        schedule.step(trainer.train_step(model, optimizer, batch))
        if schedule.committed_step == 750:
            schedule.finish(cooldown_steps=20)
    schedule.close()
    assert_follows_the_law(schedule)
    assert_cools_down(schedule, 20)


def test_other_policies_need_a_budget(server: Server) -> None:
    model, optimizer = trainer.make()
    with pytest.raises(autolrs.InvalidSpec, match="total_steps is required by policy cosine"):
        autolrs.Schedule(optimizer, model, None, policy="cosine", server=server.address)
    with pytest.raises(autolrs.InvalidSpec, match="open_budget must not be set together with total_steps"):
        autolrs.Schedule(optimizer, model, 900, expected_steps=900, server=server.address)
