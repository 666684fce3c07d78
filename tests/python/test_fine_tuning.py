"""From a model that is trained already: the search may find nothing, and must do no harm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import Tensor, nn

import autolrs.torch as autolrs


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """After 1000 steps whose LR falls to 0."""
    model, optimizer = trainer.make()
    stream = trainer.batches(0)
    for step in range(1000):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - step / 1000)
        trainer.train_step(model, optimizer, next(stream))
    return model


def tune(server: Server, trained: nn.Module, policy: str) -> tuple[autolrs.Schedule, nn.Module]:
    model, optimizer = trainer.make()
    model.load_state_dict(copy.deepcopy(trained.state_dict()))
    options: dict[str, Any] = {"job": f"tune-{policy}", "server": server.address, "policy": policy}
    with autolrs.Schedule(optimizer, model, 1000, **options) as schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
    return schedule, model


def losses(model: nn.Module) -> Tensor:
    """Of 20 batches, the model at rest."""
    model.eval()
    with torch.no_grad():
        pairs = zip(trainer.X.split(32), trainer.Y.split(32))
        return torch.stack([nn.functional.cross_entropy(model(x), y) for x, y in pairs])


@pytest.mark.filterwarnings("ignore::autolrs._exceptions.AutoLRSWarning")
def test_a_scan_of_a_trained_model_does_no_harm(server: Server, trained: nn.Module) -> None:
    schedule, searched = tune(server, trained, "scan")
    _, fallback = tune(server, trained, "constant")
    kinds = [step.kind for step in schedule.history]
    assert (schedule.done_reason, len(kinds), kinds.count("lost")) == ("finished", 1000, 0)
    assert kinds.count("search") <= 100
    before, after, plain = losses(trained), losses(searched), losses(fallback)
    noise = 3 * (plain - after).std() / len(plain) ** 0.5
    assert after.mean() <= plain.mean() + noise, f"{before.mean():.4f} {after.mean():.4f} {plain.mean():.4f}"
    print(f"{before.mean():.4f}, scan {after.mean():.4f}, fallback_lr {plain.mean():.4f}")
