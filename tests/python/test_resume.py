"""Crashes and checkpoints: the schedule is the undisturbed one, step for step, and so are the weights."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from serving import killed_in

import autolrs.torch as autolrs

TRAINER = Path(trainer.__file__)


def checkpoint(model: Any, optimizer: Any, schedule: autolrs.Schedule) -> dict[str, Any]:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    return copy.deepcopy(state)


def run_until(server: Server, job: str, phase: str, into: int) -> dict[str, Any]:
    """Trains to `into` steps within the phase and gives the checkpoint from there."""
    model, optimizer = trainer.make()
    schedule = autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, server=server.address, job=job)
    count = 0
    for batch in schedule.steps(trainer.batches):
        schedule.step(trainer.train_step(model, optimizer, batch))
        count += schedule.phase == phase
        if count == into:
            break
    state = checkpoint(model, optimizer, schedule)
    schedule.close()
    return state


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("way", ["resume", "load_state_dict"])
@pytest.mark.parametrize(("phase", "into"), [("trial", 30), ("warmup", 13), ("stable", 133), ("cooldown", 7)])
def test_goes_on_from_a_checkpoint(server: Server, tmp_path: Path, phase: str, into: int, way: str) -> None:
    reference, reference_model = trainer.undisturbed(server.address, "undisturbed")
    torch.save(run_until(server, "toy", phase, into), tmp_path / "checkpoint.pt")

    saved = torch.load(tmp_path / "checkpoint.pt")
    model, optimizer = trainer.make()
    if way == "resume":
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        options = {"resume": saved["schedule"]}
        schedule = autolrs.Schedule(optimizer, model, 800, server=server.address, job="toy", **options)
    else:
        schedule = autolrs.Schedule(optimizer, model, 800, server=server.address, job="toy")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
    with schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
    assert trainer.lrs(schedule) == reference
    assert same_weights(model, reference_model)


def test_server_killed_in_the_middle_of_a_run(server: Server) -> None:
    reference, reference_model = trainer.undisturbed(server.address, "undisturbed")
    model, optimizer = trainer.make()
    with autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, server=server.address, job="toy") as schedule:
        for count, batch in enumerate(schedule.steps(trainer.batches)):
            if count in (30, 333, 700):
                server.kill()
            if count in (33, 340, 700):  # a few steps without a server, too
                server.start()
            schedule.step(trainer.train_step(model, optimizer, batch))
    assert not schedule.detached
    assert trainer.lrs(schedule) == reference
    assert same_weights(model, reference_model)


def start_trainer(server: Server, directory: Path, pause: float, *options: str) -> subprocess.Popen[str]:
    process = trainer_process(server, directory, pause, *options)
    command = process.pop("command")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c, **process)


def trainer_process(server: Server, directory: Path, pause: float, *options: str) -> dict[str, Any]:
    """`Popen`'s command and environment of a trainer that can be killed."""
    command = [sys.executable, str(TRAINER), server.address, "toy", "800", str(directory)]
    return {
        "command": [*command, "--pause", str(pause), *options],
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
    }


def heed_ctrl_c() -> None:
    """A shell that starts the tests in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("options", [[], ["--dropout"]], ids=["plain", "dropout"])
def test_trainer_killed_three_times(server: Server, tmp_path: Path, options: list[str]) -> None:
    reference, reference_model = trainer.undisturbed(server.address, "undisturbed", dropout=bool(options))
    for phase in ("trial", "stable", "cooldown"):
        killed_in(phase, **trainer_process(server, tmp_path, 0.002, *options))
    process = start_trainer(server, tmp_path, 0.0, *options)
    process.communicate(timeout=120)
    assert process.returncode == 0
    schedule = [tuple(step) for step in json.loads((tmp_path / "schedule.json").read_text())]
    assert schedule == reference
    final = torch.load(tmp_path / "model.pt")
    assert all(torch.equal(value, final[name]) for name, value in reference_model.state_dict().items())


def test_ctrl_c_while_waiting_for_the_server(server: Server, tmp_path: Path) -> None:
    process = start_trainer(server, tmp_path, 0.001)
    assert process.stdout is not None
    process.stdout.readline()
    server.send(signal.SIGSTOP)
    time.sleep(2.0)
    assert process.poll() is None, "it waits for a decision"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # the decision time-out is 120 s
    server.send(signal.SIGCONT)
    assert process.returncode not in (0, None)


def test_leaving_without_close_does_not_hang(server: Server) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import trainer, autolrs.torch as a\n"
        "model, optimizer = trainer.make()\n"
        "schedule = a.Schedule(optimizer, model, 800, server=sys.argv[1], job='toy', policy='constant')\n"
        "[schedule.step(1.0) for _ in range(50)]\n"
        "input(print('ready', flush=True) or '')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, server.address, str(TRAINER.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    server.send(signal.SIGSTOP)
    process.communicate("\n", timeout=60)  # the decision time-out is 120 s
    assert process.returncode == 0
    server.send(signal.SIGCONT)
