"""Validation losses: measured without a trace, the objective of `paper`, kept through kills and resumes."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import pytest
import torch
import trainer
from conftest import Server, server_binary
from torch import nn

import autolrs.torch as autolrs

# LRs that this small model bears.
BORNE = (1e-3, 0.3)
PAPER: dict[str, Any] = {"policy": "paper", "options": {"tau": 50, "tau_max": 200}, "lr_range": BORNE}
# Three stages by the training loss (50 + 100 + 200 steps and as much search), two by the validation loss.
PAPER_STEPS = 1500


def show(server: Server, job: str) -> dict[str, Any]:
    """What `autolrs jobs show` knows."""
    command = [server_binary(), "jobs", "show", job, "--output", "json", "--server", f"http://{server.address}"]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


class Training:
    """A model with dropout and batch norm, whose validation leaves every trace that it can."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        random.seed(0)
        hidden = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3)]
        self.model = nn.Sequential(*hidden, nn.Linear(32, 3))
        self.model[1].eval()  # a mode of its own
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.measured: list[float] = []

    def step(self, batch: Any) -> torch.Tensor:
        return trainer.train_step(self.model, self.optimizer, batch)

    def validate(self) -> torch.Tensor:
        assert not self.model.training and not torch.is_grad_enabled()
        assert len({module.training for module in self.model.modules()}) == 1
        random.random()
        torch.rand(5)
        loss = nn.functional.cross_entropy(self.model(trainer.X[::4]), trainer.Y[::4])
        self.model.train()
        self.measured.append(float(loss))
        return loss

    def run(self, server: Server, job: str, total_steps: int, **options: Any) -> autolrs.Schedule:
        with autolrs.Schedule(
            self.optimizer, self.model, total_steps, job=job, server=server.address, **options
        ) as schedule:
            for batch in schedule.steps(trainer.batches):
                schedule.step(self.step(batch))
        return schedule


@pytest.mark.parametrize("device_losses", [False, True])
@pytest.mark.parametrize("policy", ["cosine", "scan"])
def test_the_training_is_the_same_with_and_without(server: Server, policy: str, device_losses: bool) -> None:
    options: dict[str, Any] = {"policy": policy, "device_losses": device_losses}
    without = Training()
    plain = without.run(server, "without", 800, **options)
    validated = Training()
    schedule = validated.run(server, "with", 800, validate=validated.validate, **options)
    assert [step.lr for step in schedule.history] == [step.lr for step in plain.history]
    assert torch.equal(*(torch.tensor([s.loss for s in run.history]).nan_to_num(7.0) for run in (schedule, plain)))
    for a, b in zip(without.model.state_dict().values(), validated.model.state_dict().values()):
        assert torch.equal(a, b)
    assert validated.model.training and not validated.model[1].training
    assert len(validated.measured) >= 5
    assert show(server, "with")["validation_loss"] == pytest.approx(validated.measured[-1])


def test_paper_goes_by_the_validation_loss_in_the_end(server: Server) -> None:
    training = Training()
    schedule = training.run(server, "paper", PAPER_STEPS, validate=training.validate, **PAPER)
    assert schedule.done_reason == "finished"
    searched = [stage for stage in show(server, "paper")["stages"] if stage["trials"]]
    assert len(searched) > 3
    for number, stage in enumerate(searched):
        loss = "training" if number < 3 else "validation"
        assert f"the least forecast of the {loss} loss" in stage["why"]
        counts = {len(trial["validations"]) for trial in stage["trials"]}
        assert counts == ({0} if number < 3 else {16})


def test_without_validate_paper_says_what_it_goes_by(server: Server) -> None:
    Training().run(server, "paper", PAPER_STEPS, **PAPER)
    shown = show(server, "paper")
    assert all("validation" not in stage["why"] for stage in shown["stages"])
    assert "but the trainer measures none (validate)" in shown["warnings"][0]


def test_the_objective_can_be_set(server: Server) -> None:
    for objective in ("training", "validation"):
        training = Training()
        options = {**PAPER, "options": {**PAPER["options"], "objective": objective}}
        training.run(server, objective, 400, validate=training.validate, **options)
        assert f"of the {objective} loss" in show(server, objective)["stages"][0]["why"]
    with pytest.raises(autolrs.InvalidSpec, match="objective"):
        Training().run(server, "neither", 400, policy="paper", options={"objective": "accuracy"})


VALIDATED: dict[str, Any] = {
    "policy": "paper",
    "options": {"tau": 100, "tau_max": 100, "objective": "validation"},
    "lr_range": BORNE,
}


def test_server_killed_in_a_trial_with_validations(server: Server) -> None:
    reference = Training()
    expected = trainer.lrs(reference.run(server, "undisturbed", 600, validate=reference.validate, **VALIDATED))
    training = Training()
    with autolrs.Schedule(
        training.optimizer,
        training.model,
        600,
        job="killed",
        server=server.address,
        validate=training.validate,
        **VALIDATED,
    ) as schedule:
        for count, batch in enumerate(schedule.steps(trainer.batches)):
            if count in (5, 37, 150):  # in trials, and in a stage
                assert schedule.searching == (count < 150)
                server.kill()
                server.start()
            schedule.step(training.step(batch))
    assert trainer.lrs(schedule) == expected
    assert training.measured == reference.measured


@pytest.mark.parametrize("into", [34, 140])
def test_goes_on_from_a_checkpoint(server: Server, into: int) -> None:
    """In a trial, which leads back to the search's start, and in a committed stage."""
    options = {**VALIDATED, "rng": True}
    reference = Training()
    expected = trainer.lrs(reference.run(server, "undisturbed", 600, validate=reference.validate, **options))
    first = Training()
    schedule = autolrs.Schedule(
        first.optimizer, first.model, 600, job="toy", server=server.address, validate=first.validate, **options
    )
    for count, batch in enumerate(schedule.steps(trainer.batches), start=1):
        schedule.step(first.step(batch))
        if count == into:
            break
    assert schedule.searching == (into < 100)
    state, generator = schedule.state_dict(), torch.get_rng_state()
    schedule.close()
    again = Training()
    again.model.load_state_dict(first.model.state_dict())
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    torch.set_rng_state(generator)
    resumed = again.run(server, "toy", 600, validate=again.validate, resume=state, **options)
    assert trainer.lrs(resumed) == expected


def test_a_search_by_validation_is_not_gone_on_with_without_it(server: Server) -> None:
    training = Training()
    schedule = autolrs.Schedule(
        training.optimizer,
        training.model,
        600,
        job="toy",
        server=server.address,
        validate=training.validate,
        **VALIDATED,
    )
    for _, batch in zip(range(15), schedule.steps(trainer.batches)):
        schedule.step(training.step(batch))
    state = schedule.state_dict()
    schedule.close()
    with pytest.raises(autolrs.Error, match="go on with a trainer that measures them"):
        Training().run(server, "toy", 600, resume=state, **VALIDATED)


def test_guarded_covers_validate_in_a_trial(server: Server) -> None:
    training = Training()

    def validate() -> float:
        assert schedule.lr < 0.1, "not finite"
        return float(training.validate())

    with autolrs.Schedule(
        training.optimizer, training.model, 400, job="toy", server=server.address, validate=validate, **VALIDATED
    ) as schedule:
        for batch in schedule.steps(trainer.batches):
            with schedule.guarded():
                schedule.step(training.step(batch))
            if not schedule.searching:
                break
        outcomes = [(t["lr"], t["outcome"]) for t in show(server, "toy")["stages"][0]["trials"]]
    assert all((lr >= 0.1) == (outcome == "diverged") for lr, outcome in outcomes), outcomes
    assert len({outcome for _, outcome in outcomes}) == 2


def noisy_labels(server: Server, job: str, epochs: int) -> list[str]:
    """A large network that learns 64 random labels by heart, validated on others; the job's warnings."""
    torch.manual_seed(1)
    x, y = torch.randn(64, 20), torch.randint(0, 4, (64,))
    held_x, held_y = torch.randn(256, 20), torch.randint(0, 4, (256,))
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with autolrs.Schedule(
        optimizer,
        model,
        20 * epochs,
        job=job,
        server=server.address,
        policy="constant",
        validate=lambda: nn.functional.cross_entropy(model(held_x), held_y),
    ) as schedule:
        for _ in schedule.steps([None]):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step(loss)
    return list(show(server, job)["warnings"])


def test_learning_noise_by_heart_is_warned_of(server: Server) -> None:
    (warning,) = noisy_labels(server, "by-heart", 200)
    assert warning.startswith("training and validation loss part: from committed step")


def test_healthy_training_is_not_warned_of(server: Server) -> None:
    training = Training()
    training.run(server, "healthy", 800, policy="cosine", validate=training.validate)
    assert not show(server, "healthy")["warnings"]
