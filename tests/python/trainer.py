"""A small real training that is the same to the bit every time; run as a program, a trainer that can be killed.

    python trainer.py ADDRESS JOB TOTAL_STEPS DIRECTORY [--pause SECONDS]

writes DIRECTORY/checkpoint.pt every 20 steps, goes on from it if it is there, and at the end writes
DIRECTORY/schedule.json: the list of (total_step, lr) of every step that the job is made of.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autolrs.torch as autolrs

TOTAL_STEPS = 800  # scan searches from 720 on

Schedule = list[tuple[int, float]]


def data() -> tuple[Tensor, Tensor]:
    """Noisy three-class data in 16 dimensions."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(640, 16, generator=generator)
    hidden = torch.tanh(x @ torch.randn(16, 8, generator=generator))
    scores = hidden @ torch.randn(8, 3, generator=generator) + 0.5 * torch.randn(640, 3, generator=generator)
    return x, scores.argmax(1)


X, Y = data()


def batches(position: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches from number `position` on; 20 in a pass."""
    while True:
        number, chunk = divmod(position, 20)
        order = torch.randperm(640, generator=torch.Generator().manual_seed(number))
        rows = order[chunk * 32 : (chunk + 1) * 32]
        yield X[rows], Y[rows]
        position += 1


def make(kind: str = "sgd") -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with batch norm, and an optimizer with three groups, one of them frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    groups = [
        {"params": model[3].parameters()},
        {"params": model[0].parameters(), "lr": 0.005},
        {"params": model[1].parameters(), "lr": 0.0},
    ]
    if kind == "adam":
        groups[1]["lr"] = 0.0005
        return model, torch.optim.Adam(groups, lr=0.001)
    return model, torch.optim.SGD(groups, lr=0.01, momentum=0.9)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def lrs(schedule: autolrs.Schedule) -> Schedule:
    """(number, LR) of every step of the job."""
    return [(step.total_step, step.lr) for step in schedule.history]


def undisturbed(address: str, job: str, **options: Any) -> tuple[Schedule, nn.Module]:
    """A run from the first step to the last."""
    model, optimizer = make()
    with autolrs.Schedule(optimizer, model, TOTAL_STEPS, job=job, server=address, **options) as schedule:
        for batch in schedule.steps(batches):
            schedule.step(train_step(model, optimizer, batch))
    return lrs(schedule), model


def main(address: str, job: str, total_steps: int, directory: Path, pause: float) -> None:
    torch.set_num_threads(1)
    checkpoint = directory / "checkpoint.pt"
    saved = torch.load(checkpoint) if checkpoint.exists() else None
    model, optimizer = make()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    resume = saved["schedule"] if saved is not None else None
    with autolrs.Schedule(optimizer, model, total_steps, job=job, server=address, resume=resume) as schedule:
        for count, batch in enumerate(schedule.steps(batches), start=1):
            schedule.step(train_step(model, optimizer, batch))
            time.sleep(pause)
            if count % 20 == 0:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                }
                torch.save(state, checkpoint.with_suffix(".new"))
                os.replace(checkpoint.with_suffix(".new"), checkpoint)
                print(f"{schedule.total_step} {schedule.phase}", flush=True)
    (directory / "schedule.json").write_text(json.dumps(lrs(schedule)))
    torch.save(model.state_dict(), directory / "model.pt")


if __name__ == "__main__":
    seconds = float(sys.argv[6]) if len(sys.argv) > 6 else 0.0
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), seconds)
