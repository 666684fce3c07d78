"""A small real training that is the same to the bit every time; run as a program, a trainer that can be killed.

    python trainer.py ADDRESS JOB TOTAL_STEPS DIRECTORY [--pause SECONDS] [--dropout]

writes DIRECTORY/checkpoint.pt at its start and every 20 steps, goes on from it if it is there, and at the end writes
DIRECTORY/schedule.json: the list of (total_step, lr) of every step that the job is made of. With --dropout the training
draws from PyTorch's generator at every step, and its batches come from a loader that shuffles with a generator of its
own: the checkpoint holds both.
"""

from __future__ import annotations

import argparse
import json
import os
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


class Shuffled:
    """Batches in an order that is drawn anew for every pass; `state_dict` is where it stands."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(3)
        self._start_of_pass = self._generator.get_state()
        self._next = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._generator.set_state(self._start_of_pass)
        order = torch.randperm(640, generator=self._generator)
        while self._next < 20:
            rows = order[self._next * 32 : (self._next + 1) * 32]
            self._next += 1
            yield X[rows], Y[rows]
        self._start_of_pass, self._next = self._generator.get_state(), 0

    def state_dict(self) -> dict[str, Any]:
        return {"start_of_pass": self._start_of_pass.clone(), "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start_of_pass, self._next = state["start_of_pass"].clone(), state["next"]


def make(kind: str = "sgd") -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with batch norm, and an optimizer with three groups, one of them frozen."""
    torch.manual_seed(0)
    layers = [nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)]
    if kind == "dropout":
        layers.insert(3, nn.Dropout(0.2))
    model = nn.Sequential(*layers)
    groups = [
        {"params": model[-1].parameters()},
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


def undisturbed(address: str, job: str, dropout: bool = False, **options: Any) -> tuple[Schedule, nn.Module]:
    """A run from the first step to the last."""
    model, optimizer = make("dropout" if dropout else "sgd")
    options = {"server": address, "rng": dropout, **options}
    with autolrs.Schedule(optimizer, model, TOTAL_STEPS, job=job, **options) as schedule:
        for batch in schedule.steps(Shuffled() if dropout else batches):
            schedule.step(train_step(model, optimizer, batch))
    return lrs(schedule), model


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: autolrs.Schedule) -> None:
    """The old file or the new one, whenever the process is killed."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def main(address: str, job: str, total_steps: int, directory: Path, pause: float, dropout: bool) -> None:
    torch.set_num_threads(1)
    checkpoint = directory / "checkpoint.pt"
    saved = torch.load(checkpoint) if checkpoint.exists() else None
    model, optimizer = make("dropout" if dropout else "sgd")
    options: dict[str, Any] = {"server": address, "rng": dropout}
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
        options["resume"] = saved["schedule"]
    loader = Shuffled() if dropout else batches
    with autolrs.Schedule(optimizer, model, total_steps, job=job, **options) as schedule:
        steps = schedule.steps(loader)
        if saved is None:
            save(checkpoint, model, optimizer, schedule)
        print(f"{schedule.total_step} open", flush=True)
        for count, batch in enumerate(steps, start=1):
            schedule.step(train_step(model, optimizer, batch))
            time.sleep(pause)
            if count % 20 == 0:
                save(checkpoint, model, optimizer, schedule)
                print(f"{schedule.total_step} {schedule.phase}", flush=True)
    torch.save(model.state_dict(), directory / "model.pt")
    (directory / "schedule.new").write_text(json.dumps(lrs(schedule)))
    os.replace(directory / "schedule.new", directory / "schedule.json")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("job")
    arguments.add_argument("total_steps", type=int)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--pause", type=float, default=0.0)
    arguments.add_argument("--dropout", action="store_true")
    main(**vars(arguments.parse_args()))
