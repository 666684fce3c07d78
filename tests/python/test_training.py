"""A training under the schedule, as its user sees it."""

from __future__ import annotations

import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import nn

import autolrs.torch as autolrs

DONE = trainer.TOTAL_STEPS


def open_schedule(server: Server, kind: str = "sgd", **options: Any) -> tuple[autolrs.Schedule, Any, Any]:
    model, optimizer = trainer.make(kind)
    options = {"total_steps": DONE, "server": server.address, "job": "toy", **options}
    return autolrs.Schedule(optimizer, model, **options), model, optimizer


def finish(schedule: autolrs.Schedule, model: nn.Module, optimizer: Any) -> list[float]:
    losses = []
    with schedule:
        for batch in schedule.steps(trainer.batches):
            loss = trainer.train_step(model, optimizer, batch)
            losses.append(loss.item())
            schedule.step(loss)
    return losses


def test_the_five_lines(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    assert schedule.searching and not schedule.done and schedule.total_step == 0
    losses = finish(schedule, model, optimizer)
    kinds = [step.kind for step in schedule.history]
    assert schedule.done and schedule.done_reason == "finished" and schedule.phase == "done"
    assert len(losses) == schedule.total_step == len(schedule.history) == DONE
    assert 0 < kinds.count("search") <= 0.10 * DONE
    assert schedule.committed_step == kinds.count("committed")
    assert sum(losses[-20:]) < 0.6 * sum(losses[:5]) * 4
    assert [step.loss for step in schedule.history] == losses
    assert schedule.history[-1].lr < 0.05 * max(step.lr for step in schedule.history if step.kind == "committed")


def test_staged_searches_again_and_goes_on_from_its_trials(server: Server) -> None:
    options = {"tau": 100, "trial_fraction": 0.2}
    schedule, model, optimizer = open_schedule(server, policy="staged", options=options, max_overhead=0.4)
    losses = finish(schedule, model, optimizer)
    steps = list(schedule.history)
    kinds = [step.kind for step in steps]
    assert schedule.done_reason == "finished" and len(losses) == len(steps) == DONE
    assert schedule.committed_step == kinds.count("committed")
    assert 0 < kinds.count("search") <= 0.4 * DONE
    trials = {step.seq: step.kind for step in steps if step.phase == "trial"}
    assert len(trials) > 10 and "committed" in trials.values(), "some were gone on from"
    lengths = [sum(step.seq == seq for step in steps) for seq in trials]
    assert max(lengths) == 20 and min(lengths) < 20, "some ended at a rung"
    lrs = {step.lr for step in steps if step.phase == "stable"}
    assert len(lrs) > 1
    assert sum(losses[-20:]) < 0.6 * sum(losses[:5]) * 4


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_every_group_has_its_lr_at_every_step(server: Server, kind: str) -> None:
    schedule, model, optimizer = open_schedule(server, kind)
    base = [group["lr"] for group in optimizer.param_groups]
    seen = []
    ratios = (1.0, 0.5, 0.0)
    with schedule:
        for batch in schedule.steps(trainer.batches):
            lr = schedule.lr
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
                [lr * r for r in ratios], rel=1e-12
            )
            assert optimizer.param_groups[0]["lr"] == lr
            seen.append(lr)
            schedule.step(trainer.train_step(model, optimizer, batch))
    assert seen == [step.lr for step in schedule.history], "what was in force is what history says"
    assert base != schedule.get_last_lr()


def test_a_trial_begins_from_the_very_same_state_and_batches(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    starts: dict[int, Any] = {}
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    with schedule:
        for x, y in schedule.steps(torch.utils.data.DataLoader(list(zip(trainer.X, trainer.Y)), 32, shuffle=True)):
            seq = schedule._session.seq  # type: ignore[union-attr]
            if schedule.phase in ("trial", "warmup") and seq not in starts:
                state = [t.clone() for t in [*model.parameters(), *model.buffers()]]
                starts[seq] = (schedule.phase, state, dict(optimizer.state), x.clone())
            schedule.step(trainer.train_step(model, optimizer, (x, y)))
            if schedule.phase == "stable":
                break
    trials = [start for start in starts.values() if start[0] == "trial"]
    warmup = next(start for start in starts.values() if start[0] == "warmup")
    assert len(trials) >= 3
    for _, state, optimizer_state, x in trials[1:]:
        assert all(torch.equal(a, b) for a, b in zip(state, trials[0][1]))
        assert not optimizer_state and torch.equal(x, trials[0][3])
    assert all(torch.equal(a, b) for a, b in zip(warmup[1], trials[0][1])), "training begins where the search began"
    assert not torch.equal(warmup[3], trials[0][3]), "and with new batches"
    assert addresses == [parameter.data_ptr() for parameter in model.parameters()]


def test_losses_may_be_floats(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    with schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch).item())
    reference, _ = trainer.undisturbed(server.address, "tensors")
    assert trainer.lrs(schedule) == reference


def test_device_losses_give_a_whole_run(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server, device_losses=True)
    losses = finish(schedule, model, optimizer)
    assert schedule.done and len(losses) == DONE
    assert [step.loss for step in schedule.history] == losses


def test_loops_without_steps(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server, policy="cosine", total_steps=50)
    stream = trainer.batches(0)
    while not schedule.done:
        schedule.step(trainer.train_step(model, optimizer, next(stream)))
    assert schedule.total_step == 50
    with pytest.warns(autolrs.AutoLRSWarning, match="further steps are not recorded"):
        schedule.step(1.0)
    schedule.close()


def test_accumulation_counts_optimizer_steps(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server, policy="constant", total_steps=30)
    loader = torch.utils.data.DataLoader(list(zip(trainer.X, trainer.Y)), 32, num_workers=2)
    drawn = 0
    with schedule:
        for group in schedule.steps(loader, accumulate=4):
            optimizer.zero_grad()
            losses = [nn.functional.cross_entropy(model(x), y) / 4 for x, y in group]
            sum(losses).backward()
            optimizer.step()
            drawn += len(group)
            schedule.step(sum(loss.item() for loss in losses))
    assert (schedule.total_step, drawn) == (30, 120)


def test_second_run_of_a_finished_script(server: Server) -> None:
    first, _ = trainer.undisturbed(server.address, "toy")
    schedule, model, optimizer = open_schedule(server)
    with pytest.raises(autolrs.JobFinished, match="restart"):
        finish(schedule, model, optimizer)
    schedule, model, optimizer = open_schedule(server, restart=True)
    finish(schedule, model, optimizer)
    assert trainer.lrs(schedule) == first
    unnamed, model, optimizer = open_schedule(server, job=None, policy="constant", total_steps=10)
    finish(unnamed, model, optimizer)
    assert unnamed.job != "toy" and unnamed.done


def test_a_stable_stretch_that_breaks_is_rolled_back(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    before = broken = None
    with schedule:
        for batch in schedule.steps(trainer.batches):
            loss = trainer.train_step(model, optimizer, batch).item()
            if broken is None and schedule.phase == "stable" and schedule.total_step > 0.4 * DONE:
                before, broken = schedule.lr, schedule.total_step
                with torch.no_grad():
                    model[0].weight.fill_(math.nan)
                loss = math.nan
            schedule.step(loss)
            if schedule.total_step == (broken or 0) + 1 and broken is not None:
                assert not any(parameter.isnan().any() for parameter in model.parameters())
                assert schedule.lr == pytest.approx(before / 2) == optimizer.param_groups[0]["lr"]
    lost = [step for step in schedule.history if step.kind == "lost"]
    assert broken in [step.total_step for step in lost]
    assert schedule.done_reason == "finished" and schedule.total_step == DONE
    assert schedule.committed_step == sum(step.kind == "committed" for step in schedule.history)


def test_guarded_turns_errors_of_a_trial_into_a_diverged_one(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    raised = 0
    with schedule:
        for batch in schedule.steps(trainer.batches):
            with schedule.guarded():
                loss = trainer.train_step(model, optimizer, batch)
                if schedule.searching and schedule.total_step == 3:
                    raised += 1
                    raise RuntimeError("Function 'MulBackward0' returned nan values in its 0th output.")
                schedule.step(loss)
        assert raised == 1 and schedule.done
    assert math.isnan(schedule.history[3].loss)
    assert schedule.history[4].seq != schedule.history[3].seq, "the trial was stopped there"
    with pytest.raises(KeyError), schedule.guarded():
        raise KeyError("not numerical")


def test_guarded_does_not_hide_errors_of_committed_steps(server: Server) -> None:
    schedule, _, _ = open_schedule(server, policy="constant")
    with pytest.raises(FloatingPointError), schedule.guarded():
        raise FloatingPointError("nan")
    schedule.close()


def test_another_scheduler_is_told_once_and_ours_wins(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server, policy="constant", total_steps=20)
    other = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    with pytest.warns(autolrs.AutoLRSWarning, match="Somebody else set the LR") as caught, schedule:
        for batch in schedule.steps(trainer.batches):
            loss = trainer.train_step(model, optimizer, batch)
            other.step()
            schedule.step(loss)
            assert optimizer.param_groups[0]["lr"] == schedule.lr
    assert len(caught) == 1


def test_validation_losses_are_taken(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server, policy="constant", total_steps=20)
    with schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
            if schedule.total_step == 10:
                schedule.validation(0.5)
    assert schedule.done


def test_the_picture(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    schedule, model, optimizer = open_schedule(server)
    finish(schedule, model, optimizer)
    assert schedule.plot(tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_schedule_stays_in_its_process(server: Server) -> None:
    schedule, _, _ = open_schedule(server, policy="constant")
    with pytest.raises(TypeError, match="state_dict"):
        pickle.dumps(schedule)
    schedule.close()


def test_no_warning_in_a_healthy_run(server: Server) -> None:
    schedule, model, optimizer = open_schedule(server)
    with warnings.catch_warnings():
        warnings.simplefilter("error", autolrs.AutoLRSWarning)
        finish(schedule, model, optimizer)


OTHER_POLICIES: list[tuple[str, dict[str, Any]]] = [
    ("paper", {"tau": 50, "tau_max": 200}),
    ("paper", {"tau": 50, "tau_max": 200, "forecaster": "mixture"}),
    ("constant", {"warmup_steps": 30}),
    ("cosine", {"warmup_steps": 30}),
    ("wsd", {"warmup_steps": 30}),
    ("step", {"milestones": [300, 500], "gamma": 0.2}),
    ("one_cycle", {"pct_start": 0.25}),
    ("clr", {"step_size": 50}),
    ("sgdr", {"t0": 100}),
]


@pytest.mark.parametrize(("policy", "options"), OTHER_POLICIES)
def test_other_policies(server: Server, policy: str, options: dict[str, Any]) -> None:
    schedule, model, optimizer = open_schedule(server, policy=policy, options=options)
    finish(schedule, model, optimizer)
    searched = sum(step.kind == "search" for step in schedule.history)
    assert schedule.total_step == DONE and (searched > 0) is (policy == "paper")
