"""`autolrs.Session`: any loop, here numpy alone, on the real server."""

from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy_trainer
import pytest
from conftest import Server
from numpy_trainer import TOTAL_STEPS, Trainer, batches, lrs, open_session, undisturbed
from serving import killed_in

import autolrs


def test_every_trial_starts_from_the_same_state(server: Server) -> None:
    """To the bit, the generator of random numbers included; training then goes on from there."""
    trainer = Trainer()
    states: list[bytes] = []
    told: list[float] = []
    ran: list[float] = []
    with open_session(trainer, server.address, "toy", set_lr=told.append) as session:
        for batch in session.steps(batches):
            assert session.lr == told[-1]
            states.append(pickle.dumps(trainer.state()))
            ran.append(session.lr)
            session.step(trainer.step(batch, session.lr))
    assert session.done_reason == "finished" and session.total_step == TOTAL_STEPS
    assert ran == [step.lr for step in session.history]
    starts = [
        states[next(steps)[0]]
        for phase, steps in groupby(enumerate(session.history), key=lambda step: (step[1].phase, step[1].seq))
        if phase[0] in ("trial", "warmup")
    ]
    assert len(starts) >= 4 and len(set(starts)) == 1
    assert len(set(states)) > TOTAL_STEPS // 2
    assert trainer.loss() < 0.5 * Trainer().loss()


@pytest.mark.parametrize("phase", ["trial", "stable", "cooldown"])
def test_a_killed_trainer_goes_on_where_it_was(server: Server, tmp_path: Path, phase: str) -> None:
    reference, trained = undisturbed(server.address, "undisturbed")
    command = [sys.executable, numpy_trainer.__file__, server.address, "toy", str(tmp_path)]
    killed_in(phase, [*command, "--pause", "0.002"])
    assert not (tmp_path / "result.pickle").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    schedule, weights = pickle.loads((tmp_path / "result.pickle").read_bytes())
    assert schedule == reference
    assert np.array_equal(weights, trained.weights)


def test_validation_is_asked_for_and_changes_nothing(server: Server) -> None:
    reference, trained = undisturbed(server.address, "without")
    measured: list[float] = []

    def validate() -> float:
        measured.append(trainer.loss())
        return measured[-1]

    trainer = Trainer()
    with open_session(trainer, server.address, "with", validate=validate) as session:
        for batch in session.steps(batches):
            session.step(trainer.step(batch, session.lr))
    assert len(measured) >= 4 and measured[-1] == trainer.loss() < measured[0]
    assert lrs(session) == reference
    assert np.array_equal(trainer.weights, trained.weights)


def test_an_error_of_a_trial_is_a_diverged_loss(server: Server) -> None:
    trainer = Trainer()
    diverged = set()
    with open_session(trainer, server.address, "toy", lr_range=(1e-4, 1e4)) as session:
        for batch in session.steps(batches):
            with session.guarded():
                loss = trainer.step(batch, session.lr)
                if session.searching and session.lr > 100:
                    diverged.add(session.lr)
                    raise FloatingPointError("overflow encountered in exp")
                session.step(loss)
        with pytest.raises(FloatingPointError), session.guarded():
            raise FloatingPointError("not a trial's")
    steps = [step for step in session.history if step.lr in diverged]
    assert steps and all(np.isnan(step.loss) for step in steps)
    assert session.done_reason == "finished" and np.isfinite(trainer.loss())


def test_a_range_is_needed_where_something_is_searched(server: Server) -> None:
    with pytest.raises(autolrs.InvalidSpec, match="lr_range"):
        open_session(Trainer(), server.address, "toy", lr_range=None)
    open_session(Trainer(), server.address, "toy", lr_range=None, policy="cosine").close()


def test_a_keyword_that_nobody_knows() -> None:
    with pytest.raises(TypeError, match="warmup"):
        open_session(Trainer(), "127.0.0.1:1", "toy", warmup=3)


def test_help_describes_every_keyword() -> None:
    assert autolrs.Session.__doc__ is not None
    for word in ("save", "fallback_lr", "decision_timeout", "max_overhead"):
        assert f"\n    {word}" in autolrs.Session.__doc__ or f", {word} :" in autolrs.Session.__doc__
