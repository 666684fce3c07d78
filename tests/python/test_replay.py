"""A schedule that was run is exported and run again: by the service, and without it."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer
from conftest import Server, server_binary
from torch import nn

import autolrs.torch as autolrs


def kept(schedule: autolrs.Schedule) -> list[float]:
    return [step.lr for step in schedule.history if step.kind == "committed"]


def exported_by_the_server(server: Server, job: str, form: str, path: Path) -> Path:
    command = [str(server_binary()), "jobs", "export", job, "--server", f"http://{server.address}", "--output", form]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


def follow(schedule: autolrs.Schedule, model: nn.Module, optimizer: Any, broken: tuple[int, ...] = ()) -> None:
    """Trains to the end; the losses of these steps are NaN."""
    for batch in schedule.steps(trainer.batches):
        loss = trainer.train_step(model, optimizer, batch)
        schedule.step(math.nan if schedule.total_step in broken else loss)


def replayed(server: Server, path: Path, **options: Any) -> list[float]:
    model, optimizer = trainer.make()
    options = {"total_steps": None, "job": "again", "policy": "replay", "options": {"schedule": path}, **options}
    with autolrs.Schedule(optimizer, model, server=server.address, **options) as schedule:
        follow(schedule, model, optimizer)
    assert schedule.done_reason == "finished"
    return [step.lr for step in schedule.history]


def test_what_scan_ran_is_run_again_to_the_bit(server: Server, tmp_path: Path) -> None:
    model, optimizer = trainer.make()
    with autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, job="toy", server=server.address) as schedule:
        assert schedule.searching
        with pytest.raises(autolrs.Error, match="no step has been kept yet"):
            schedule.export(tmp_path / "early.json")
        follow(schedule, model, optimizer)
        path = schedule.export(tmp_path / "deep" / "schedule.json")
    lrs = kept(schedule)
    assert 0 < len(lrs) == schedule.committed_step < trainer.TOTAL_STEPS

    saved = autolrs.load_schedule(path)
    assert (saved.job, saved.policy, saved.state) == ("toy", "scan", "finished")
    assert list(saved) == lrs
    ours, theirs = (
        json.loads(path.read_text()),
        json.loads(exported_by_the_server(server, "toy", "json", path).read_text()),
    )
    assert ours.items() <= theirs.items() and set(theirs) - set(ours) == {"commits"}
    table = exported_by_the_server(server, "toy", "csv", tmp_path / "schedule.csv")
    assert list(autolrs.load_schedule(table)) == lrs
    assert schedule.export(tmp_path / "ours.csv").read_bytes() == table.read_bytes()

    assert replayed(server, path, job="host") == lrs
    assert replayed(server, path, job="device", device_losses=True, total_steps=len(lrs)) == lrs
    assert replayed(server, path, job="short", total_steps=300) == lrs[:300]
    assert replayed(server, path, job="long", total_steps=len(lrs) + 50) == lrs + lrs[-1:] * 50

    model, optimizer = trainer.make()
    scheduler = autolrs.replay(path, optimizer)
    again = []
    for step in range(len(lrs)):
        trainer.train_step(model, optimizer, next(trainer.batches(step)))
        again.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert again == lrs


def test_a_rollback_is_left_out(server: Server, tmp_path: Path) -> None:
    model, optimizer = trainer.make()
    options = {"policy": "wsd", "options": {"warmup_steps": 50}, "job": "toy", "server": server.address}
    with autolrs.Schedule(optimizer, model, 600, **options) as schedule:
        follow(schedule, model, optimizer, broken=(260, 261, 410))
        ours = autolrs.load_schedule(schedule.export(tmp_path / "schedule.json"))
    assert any(step.kind == "lost" for step in schedule.history)
    theirs = autolrs.load_schedule(exported_by_the_server(server, "toy", "json", tmp_path / "theirs.json"))
    assert list(ours) == kept(schedule) == list(theirs)
    assert replayed(server, tmp_path / "schedule.json") == list(theirs)


def test_a_resumed_run_knows_its_whole_schedule(server: Server, tmp_path: Path) -> None:
    states = {}
    model, optimizer = trainer.make()
    with autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, job="toy", server=server.address) as schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
            if schedule.committed_step in (0, 33, 250) and schedule.committed_step not in states:
                states[schedule.committed_step] = {
                    "model": {name: value.clone() for name, value in model.state_dict().items()},
                    "schedule": schedule.state_dict(),
                }
            if schedule.committed_step == 300:
                break
        partial = autolrs.load_schedule(schedule.export(tmp_path / "partial.json"))
        assert (len(partial), partial.state) == (300, "training")
    assert sorted(states) == [0, 33, 250]
    for state in reversed(states.values()):
        model, optimizer = trainer.make()
        model.load_state_dict(state["model"])
        resumed = autolrs.Schedule(
            optimizer, model, trainer.TOTAL_STEPS, server=server.address, resume=state["schedule"]
        )
        with resumed:
            follow(resumed, model, optimizer)
            ours = autolrs.load_schedule(resumed.export(tmp_path / "ours.json"))
        theirs = exported_by_the_server(server, "toy", "json", tmp_path / "theirs.json")
        assert list(ours) == list(autolrs.load_schedule(theirs)) == kept(resumed)
        assert len(json.loads((tmp_path / "ours.json").read_text())["pieces"]) == 3, "warm-up, stable, cooldown"


def test_what_the_service_can_not_replay_is_named(server: Server, tmp_path: Path) -> None:
    def refused(**options: Any) -> list[str]:
        with pytest.raises(autolrs.InvalidSpec) as refusal:
            model, optimizer = trainer.make()
            autolrs.Schedule(optimizer, model, None, server=server.address, job="toy", policy="replay", **options)
        return [field for field, _ in refusal.value.violations]

    assert refused() == ["replay.schedule"]
    assert refused(options={"schedule": 7}) == ["replay.schedule"]
    table = tmp_path / "schedule.csv"
    table.write_text("step,lr\n" + "".join(f"{i},{0.1 + i * 1e-5}\n" for i in range(1001)))
    assert refused(options={"schedule": autolrs.load_schedule(table)}) == ["replay.pieces"]
    with pytest.raises(autolrs.InvalidSchedule, match=r"x\.json: format: must be"):
        (tmp_path / "x.json").write_text("{}")
        replayed(server, tmp_path / "x.json")


def test_without_a_server_the_schedule_is_run_all_the_same(tmp_path: Path) -> None:
    table = tmp_path / "schedule.csv"
    table.write_text("step,lr\n0,0.1\n1,0.2\n2,0.05\n")
    model, optimizer = trainer.make()
    options = {"policy": "replay", "options": {"schedule": table}, "on_outage": "fallback", "connect_timeout": 0.2}
    with pytest.warns(autolrs.AutoLRSWarning, match="no server: 5 steps of the schedule"):
        schedule = autolrs.Schedule(optimizer, model, 5, server="127.0.0.1:1", job="toy", **options)
    with schedule:
        follow(schedule, model, optimizer)
    assert [step.lr for step in schedule.history] == [0.1, 0.2, 0.05, 0.05, 0.05]


def test_a_checkpoint_of_a_plain_replay_goes_on_exactly(tmp_path: Path) -> None:
    pieces = [
        {"steps": 3, "shape": "linear", "start": 0.1, "end": 0.3},
        {"steps": 4, "shape": "cosine", "start": 0.3, "end": 0.0},
    ]
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps({"format": "autolrs.schedule.v1", "pieces": pieces}))

    def make(path: Path) -> tuple[Any, Any, Any]:
        model, optimizer = trainer.make()
        return model, optimizer, autolrs.replay(path, optimizer)

    def run(model: Any, optimizer: Any, scheduler: Any, steps: range) -> list[list[float]]:
        lrs = []
        for step in steps:
            lrs.append(scheduler.get_last_lr())
            trainer.train_step(model, optimizer, next(trainer.batches(step)))
            scheduler.step()
        return lrs

    model, optimizer, scheduler = make(path)
    head = run(model, optimizer, scheduler, range(5))
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({name: part.state_dict() for name, part in parts.items()}, tmp_path / "checkpoint.pt")
    tail = run(model, optimizer, scheduler, range(5, 10))
    assert [lrs[0] for lrs in head + tail] == [scheduler.schedule.lr(step) for step in range(10)]
    assert all(lrs == [lrs[0], lrs[0] * 0.5, 0.0] for lrs in head + tail), "ratios are kept, and 0 stays 0"
    assert [lrs[0] for lrs in tail[2:]] == [0.0] * 3, "the last LR holds"

    other = tmp_path / "other.csv"
    other.write_text("step,lr\n0,0.7\n")
    model, optimizer, scheduler = make(other)
    saved = torch.load(tmp_path / "checkpoint.pt")
    for name, part in {"model": model, "scheduler": scheduler, "optimizer": optimizer}.items():
        part.load_state_dict(saved[name])
    assert run(model, optimizer, scheduler, range(5, 10)) == tail
    with pytest.raises(autolrs.CheckpointMismatch, match="version 9"):
        scheduler.load_state_dict({"version": 9})


def test_two_schedulers_are_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "schedule.csv"
    path.write_text("step,lr\n0,0.1\n1,0.2\n2,0.3\n")
    _, optimizer = trainer.make()
    scheduler = autolrs.replay(path, optimizer)
    optimizer.param_groups[0]["lr"] = 0.7
    with pytest.warns(autolrs.AutoLRSWarning, match=r"set the LR to 0\.7; the schedule's is 0\.1"):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.2, 0.1, 0.0]
