"""What the user is told when something is wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trainer
from conftest import Server

import autolrs.torch as autolrs


def open_schedule(address: str, **options: Any) -> autolrs.Schedule:
    model, optimizer = trainer.make()
    return autolrs.Schedule(optimizer, model, **{"total_steps": 800, "server": address, "job": "toy", **options})


def test_every_violation_of_the_description_is_named(server: Server) -> None:
    with pytest.raises(autolrs.InvalidSpec) as error:
        open_schedule(server.address, total_steps=0, lr_range=(1.0, 0.1))
    assert {"total_steps", "lr_max"} <= {field for field, _ in error.value.violations}
    assert "lr_max" in str(error.value)


@pytest.mark.parametrize("options", [{"nonsense": 1}, {"lr_factor": "high"}, {"lr_factor": 2.0}])
def test_bad_options_of_a_policy(server: Server, options: dict[str, Any]) -> None:
    with pytest.raises(autolrs.InvalidSpec, match="nonsense|lr_factor"):
        open_schedule(server.address, options=options)


def test_unknown_policy(server: Server) -> None:
    with pytest.raises(autolrs.InvalidSpec, match="policy"):
        open_schedule(server.address, policy="magic")


def test_a_name_with_a_slash() -> None:
    with pytest.raises(ValueError, match="not a job name"):
        open_schedule("127.0.0.1:1", job="a/b")


def test_no_server() -> None:
    begun = time.monotonic()
    with pytest.raises(autolrs.ServerUnavailable, match="127.0.0.1:9"):
        open_schedule("127.0.0.1:9", connect_timeout=1.0)
    assert time.monotonic() - begun < 5


def test_no_server_and_told_to_go_on() -> None:
    model, optimizer = trainer.make()
    with pytest.warns(autolrs.AutoLRSWarning):
        schedule = autolrs.Schedule(
            optimizer,
            model,
            total_steps=60,
            server="127.0.0.1:9",
            job="alone",
            connect_timeout=0.5,
            decision_timeout=0.5,
            on_outage="fallback",
        )
        for batch in schedule.steps(trainer.batches):
            assert optimizer.param_groups[0]["lr"] == 0.01
            schedule.step(trainer.train_step(model, optimizer, batch))
        schedule.close(0.1)
    assert schedule.detached and schedule.total_step == 60


def test_the_name_is_taken_by_another_job(server: Server) -> None:
    open_schedule(server.address).close()
    with pytest.raises(autolrs.JobExists, match="total_steps"):
        open_schedule(server.address, total_steps=900)


HOLDER = """
import sys
from test_errors import open_schedule

schedule = open_schedule(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_another_process_trains_the_job(server: Server) -> None:
    command = [sys.executable, "-c", HOLDER, server.address]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        second = open_schedule(server.address)
        with pytest.raises(autolrs.SessionActive) as error:
            second.steps(trainer.batches)
        assert error.value.pid == holder.pid and error.value.host
        third = open_schedule(server.address, takeover=True)
        assert third.total_step == 0
        third.close()
        holder.communicate()


def test_a_job_that_has_progressed_wants_its_checkpoint(server: Server) -> None:
    model, optimizer = trainer.make()
    schedule = autolrs.Schedule(optimizer, model, 800, server=server.address, job="toy")
    for batch in schedule.steps(trainer.batches):
        schedule.step(trainer.train_step(model, optimizer, batch))
        if schedule.phase == "stable":
            break
    schedule.close()
    again = open_schedule(server.address, takeover=True)
    with pytest.raises(autolrs.JobInProgress, match="restart"):
        again.steps(trainer.batches)


def test_a_checkpoint_of_another_version(server: Server) -> None:
    schedule = open_schedule(server.address)
    state = {**schedule.state_dict(), "version": 99}
    with pytest.raises(autolrs.CheckpointMismatch, match="version 99"):
        schedule.load_state_dict(state)
    schedule.close()
