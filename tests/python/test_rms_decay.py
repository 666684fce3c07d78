"""RMSprop does not correct the bias of its running mean, and the search is told so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import nn

import autolrs.torch as autolrs
from autolrs._groups import rms_decay_of


class Derived(torch.optim.RMSprop):
    pass


def model() -> nn.Module:
    return trainer.make()[0]


def open_schedule(server: Server, job: str, optimizer: type[torch.optim.Optimizer], **settings: Any) -> None:
    trained = model()
    settings = {"total_steps": 800, "server": server.address, "job": job, "lr_range": (1e-5, 0.1), **settings}
    arguments = {"alpha": 0.95} if issubclass(optimizer, torch.optim.RMSprop) else {}
    autolrs.Schedule(optimizer(trained.parameters(), lr=0.01, **arguments), trained, **settings).close()


def assert_decay(server: Server, job: str, decay: float) -> None:
    """The service refuses the name to a job with another decay, and no other field differs."""
    plain: dict[str, Any] = {"optimizer": torch.optim.SGD}
    open_schedule(server, job, options={"rms_decay": decay}, **plain)
    with pytest.raises(autolrs.JobExists, match=r"scan\.rms_decay"):
        open_schedule(server, job, options={"rms_decay": 0.5}, **plain)


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, Derived])
def test_the_decay_is_the_optimizers(server: Server, optimizer: type[torch.optim.Optimizer]) -> None:
    open_schedule(server, "a", optimizer)
    assert_decay(server, "a", 0.95)
    open_schedule(server, "b", optimizer, options={"warmup_fraction": 0.2})
    assert_decay(server, "b", 0.95)


@pytest.mark.parametrize("options, decay", [({"lr_factor": 0.3}, 0.0), ({"rms_decay": 0.9}, 0.9)])
def test_what_the_user_says_counts(server: Server, options: dict[str, float], decay: float) -> None:
    open_schedule(server, "a", torch.optim.RMSprop, options=options)
    assert_decay(server, "a", decay)


def test_other_optimizers_and_policies_have_none(server: Server) -> None:
    open_schedule(server, "a", torch.optim.Adam)
    assert_decay(server, "a", 0.0)
    open_schedule(server, "b", torch.optim.RMSprop, policy="cosine")
    open_schedule(server, "c", torch.optim.RMSprop, policy="staged")


def test_a_decay_outside_its_range(server: Server) -> None:
    with pytest.raises(autolrs.InvalidSpec, match=r"scan\.rms_decay must be at least 0 and below 1, is 1"):
        open_schedule(server, "a", torch.optim.SGD, options={"rms_decay": 1.0})


def test_a_running_mean_that_has_left_zero_needs_no_correction() -> None:
    trained = model()
    optimizer = torch.optim.RMSprop(trained.parameters(), alpha=0.9)
    assert rms_decay_of(optimizer) == 0.9
    trainer.train_step(trained, optimizer, next(trainer.batches(0)))
    assert rms_decay_of(optimizer) is None


def test_the_group_with_the_largest_lr_counts() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": first.parameters(), "lr": 0.1, "alpha": 0.9}, {"params": second.parameters()}]
    assert rms_decay_of(torch.optim.RMSprop(groups, lr=0.01)) == 0.9
