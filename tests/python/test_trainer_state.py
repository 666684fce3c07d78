"""What a training is made of beside its weights, put back after every trial, wherever the copies are."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import nn

import autolrs.torch as autolrs


class Training:
    """A mean of the weights, a loss scaler, dropout and a counter: all that a step may change."""

    def __init__(self) -> None:
        self.model, self.optimizer = trainer.make("dropout")
        self.mean = torch.optim.swa_utils.AveragedModel(
            self.model, avg_fn=lambda mean, new, number: 0.9 * mean + 0.1 * new, use_buffers=True
        )
        self.scaler = self._scaler()
        self.steps = torch.zeros((), dtype=torch.int64)
        self.weights: dict[int, Any] = {}

    @staticmethod
    def _scaler() -> Any:
        if hasattr(torch.amp, "GradScaler"):
            return torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=7)
        return torch.cuda.amp.GradScaler(enabled=False)  # torch 1.13 has none for the CPU

    def everything(self) -> list[Any]:
        scaler = sorted(self.scaler.state_dict().items())
        tensors = [*self.model.state_dict().values(), *self.mean.state_dict().values()]
        state = [(number, state) for number, state in self.optimizer.state_dict()["state"].items()]
        return [[value.clone() for value in tensors], repr(state), scaler, self.steps.item()]

    def step(self, batch: Any) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.mean.update_parameters(self.model)
        self.steps += 1
        random.random()
        return loss

    def schedule(self, server: Server, job: str, **options: Any) -> autolrs.Schedule:
        also = [self.mean, self.scaler, self.steps]
        options = {"server": server.address, "job": job, "also": also, "rng": True, **options}
        return autolrs.Schedule(self.optimizer, self.model, trainer.TOTAL_STEPS, **options)


def places(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {"device": {}, "host": {"slots": "host"}, "disk": {"slots": "disk", "slots_directory": tmp_path}}


def test_trials_leave_no_trace_wherever_the_copies_are(server: Server, tmp_path: Path) -> None:
    runs = {}
    for place, options in places(tmp_path).items():
        random.seed(0)
        training = Training()
        begun = training.everything()
        addresses = [tensor.data_ptr() for tensor in [*training.model.parameters(), *training.model.buffers()]]
        searched, compared = 0, False
        with training.schedule(server, place, **options) as schedule:
            for batch in schedule.steps(trainer.batches):
                if schedule.phase == "warmup" and searched:
                    found, searched, compared = training.everything(), 0, True
                    assert all(torch.equal(a, b) for a, b in zip(found[0], begun[0]))
                    assert found[1:] == begun[1:]
                searched += schedule.searching
                schedule.step(training.step(batch))
            if place == "disk":
                assert len(list(tmp_path.glob("autolrs-slots-*"))) == 1
        assert compared
        assert schedule.committed_step == training.steps.item(), "trials are not counted"
        assert addresses == [t.data_ptr() for t in [*training.model.parameters(), *training.model.buffers()]]
        if hasattr(torch.amp, "GradScaler"):
            assert training.scaler.get_scale() > 64.0, "it has grown in the committed steps"
        runs[place] = (trainer.lrs(schedule), training.everything()[0], random.random())
    assert not list(tmp_path.glob("autolrs-slots-*")), "gone with its schedule"
    lrs, weights, drawn = runs["device"]
    for other in ("host", "disk"):
        assert runs[other][0] == lrs and runs[other][2] == drawn
        assert all(torch.equal(a, b) for a, b in zip(weights, runs[other][1]))


def test_goes_on_from_a_file_that_was_written_in_a_search_with_slots_on_disk(server: Server, tmp_path: Path) -> None:
    reference = Training()
    with reference.schedule(server, "undisturbed") as schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(reference.step(batch))
    first = Training()
    options = places(tmp_path)["disk"]
    broken_off = first.schedule(server, "toy", **options)
    for _, batch in zip(range(30), broken_off.steps(trainer.batches)):
        broken_off.step(first.step(batch))
    assert broken_off.searching
    torch.save({"schedule": broken_off.state_dict()}, tmp_path / "checkpoint.pt")
    broken_off.close()
    with pytest.raises(autolrs.Error, match="Take state_dict\\(\\) before"):
        broken_off.state_dict()
    again = Training()
    with again.schedule(server, "toy", resume=torch.load(tmp_path / "checkpoint.pt")["schedule"], **options) as resumed:
        for batch in resumed.steps(trainer.batches):
            resumed.step(again.step(batch))
    assert trainer.lrs(resumed) == trainer.lrs(schedule)
    assert all(torch.equal(a, b) for a, b in zip(again.everything()[0], reference.everything()[0]))


def test_a_directory_for_slots_elsewhere_is_a_mistake(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='slots_directory needs slots="disk"'):
        Training().schedule(server, "toy", slots_directory=tmp_path)
