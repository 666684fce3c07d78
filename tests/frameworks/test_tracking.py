"""LR and search in TensorBoard's files and in a wandb run, offline, from a plain loop."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer as toy
import wandb
from conftest import Server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from wandb.proto import wandb_internal_pb2

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


def test_wandb(server: Server, tmp_path: Path) -> None:
    run = wandb.init(project="autolrs", mode="offline", dir=tmp_path, settings=wandb.Settings(console="off"))
    run.log({"own": 1.0})  # the user's own calls count in wandb's steps
    schedule = train(server.address, run, every=10)
    run.finish()
    wandb.teardown()  # its service writes the rest of the file
    (file,) = tmp_path.rglob("*.wandb")
    rows = read_history(file)
    assert rows[0]["own"] == "1.0" or rows[0]["own"] == "1"
    found = [row for row in rows if "total_step" in row]
    expected = wanted(schedule, 10)
    assert [int(row["total_step"]) for row in found] == [step.total_step for step in expected]
    for row, step in zip(found, expected):
        group = "search" if step.phase == "trial" else "train"
        assert (float(row[f"{group}/lr"]), float(row[f"{group}/loss"])) == (step.lr, step.loss)


def read_history(path: Path) -> list[dict[str, str]]:
    """The rows that a run has logged, from its own file."""
    rows = []
    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in items})
    return rows


def records(content: bytes) -> Iterator[bytes]:
    """LevelDB's log format after a header of 7 bytes: blocks of 32 KiB; pieces of (CRC, length, kind, data)."""
    assert content[:4] == b":W&B"
    position, whole = 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        whole += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last piece
            yield whole
            whole = b""


def test_a_function_and_what_cannot_be_logged_to(server: Server) -> None:
    rows: list[tuple[int, dict[str, float]]] = []
    schedule = train(server.address, lambda metrics, step: rows.append((step, metrics)), every=50)
    assert [step for step, _ in rows] == [step.total_step for step in wanted(schedule, 50)]
    assert torch.tensor([metrics.get("train/loss", 0.0) for _, metrics in rows]).sum() > 0
    with pytest.raises(TypeError, match="A int can't be logged to"):
        Tracker(schedule, 3)
