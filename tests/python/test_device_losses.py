"""Losses on a device are read at switch points alone: the counter says so on any device, and CUDA itself on a GPU.

`make test-gpu` runs this file with AUTOLRS_TEST_DEVICE=cuda.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import Tensor

import autolrs.torch as autolrs

DEVICE = torch.device(os.environ.get("AUTOLRS_TEST_DEVICE", "cpu"))
SWITCH_EVERY = 8  # of device losses
READS = ("item", "cpu", "tolist", "numpy", "__float__", "__int__", "__bool__", "__index__", "__array__")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the values of tensors were read, by the name of the method."""
    count: Counter[str] = Counter()
    for name in READS:
        original = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, _original: Any = original, _name: str = name, **more: Any) -> Any:
            count[_name] += 1
            return _original(self, *args, **more)

        monkeypatch.setattr(Tensor, name, counted)
    return count


def syncs_of(step: Any, loss: Tensor) -> int:
    """Reports the loss; how often a GPU was waited for meanwhile, by its own account."""
    if DEVICE.type != "cuda":
        step(loss)
        return 0
    cuda: Any = torch.cuda
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cuda.set_sync_debug_mode("warn")
        try:
            step(loss)
        finally:
            cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def test_losses_are_read_at_switch_points_alone(server: Server, reads: Counter[str]) -> None:
    model, optimizer = trainer.make()
    model.to(DEVICE)
    batches = [(x.to(DEVICE), y.to(DEVICE)) for _, (x, y) in zip(range(20), trainer.batches(0))]
    losses: list[Tensor] = []
    seq, into, silent = 0, 0, 0
    with autolrs.Schedule(
        optimizer, model, trainer.TOTAL_STEPS, server=server.address, job="toy", device_losses=True
    ) as schedule:
        session: Any = schedule._session
        for batch in schedule.steps(batches):
            loss = trainer.train_step(model, optimizer, batch)
            losses.append(loss.detach().clone())
            into = into + 1 if session.seq == seq else 1
            seq, before = session.seq, sum(reads.values())
            syncs = syncs_of(schedule.step, loss)
            read = sum(reads.values()) - before
            ended = session.seq != seq or schedule.done
            if into % SWITCH_EVERY == 0 or ended:
                assert read <= 1 + 2 * ended
            else:
                assert (read, syncs) == (0, 0), f"step {into} of directive {seq}"
                silent += 1
    assert silent > 0.8 * trainer.TOTAL_STEPS
    assert set(reads) == {"tolist"}, "one copy for many losses"
    assert [step.loss for step in schedule.history] == torch.stack(losses).tolist()
