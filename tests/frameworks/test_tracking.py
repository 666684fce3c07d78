"""LR and search in TensorBoard's files, from a plain loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trainer as toy
from conftest import Server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import autolrs.torch as autolrs
from autolrs.tracking import Tracker


def train(address: str, to: Any, every: int, **options: Any) -> autolrs.Schedule:
    model, optimizer = toy.make()
    schedule = autolrs.Schedule(optimizer, model, toy.TOTAL_STEPS, server=address, job="toy", **options)
    track = Tracker(schedule, to, every)
    with schedule:
        for batch in schedule.steps(toy.batches):
            schedule.step(toy.train_step(model, optimizer, batch))
            track()
    track.close()
    return schedule


def wanted(schedule: autolrs.Schedule, every: int) -> list[autolrs.Step]:
    """Each `every`-th step, and the first of every directive."""
    steps = list(schedule.history)
    return [s for n, s in enumerate(steps) if n % every == 0 or s.seq != steps[n - 1].seq]


@pytest.mark.parametrize("on_device", [False, True])
def test_tensorboard(server: Server, tmp_path: Path, on_device: bool) -> None:
    with SummaryWriter(tmp_path / "board") as writer:
        schedule = train(server.address, writer, every=1, device_losses=on_device)
    board = EventAccumulator(str(tmp_path / "board"), {"scalars": 0})
    board.Reload()
    for group, search in (("search", True), ("train", False)):
        steps = [step for step in schedule.history if (step.phase == "trial") is search]
        for name in ("lr", "loss"):
            points = [(point.step, point.value) for point in board.Scalars(f"{group}/{name}")]
            assert points == [(s.total_step, pytest.approx(getattr(s, name), rel=1e-6)) for s in steps]


def test_a_function_and_what_cannot_be_logged_to(server: Server) -> None:
    rows: list[tuple[int, dict[str, float]]] = []
    schedule = train(server.address, lambda metrics, step: rows.append((step, metrics)), every=50)
    assert [step for step, _ in rows] == [step.total_step for step in wanted(schedule, 50)]
    assert torch.tensor([metrics.get("train/loss", 0.0) for _, metrics in rows]).sum() > 0
    with pytest.raises(TypeError, match="A int can't be logged to"):
        Tracker(schedule, 3)
