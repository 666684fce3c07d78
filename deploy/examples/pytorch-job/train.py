"""A training that may be stopped at any moment: started again, it goes on from its checkpoint and from its place in the
schedule. AUTOLRS_SERVER, AUTOLRS_TOKEN and AUTOLRS_CA say where the server is and who asks.

    python train.py [--job NAME] [--steps N] [--checkpoints DIRECTORY]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

import autolrs.torch as autolrs

ROWS, BATCH = 2048, 64
SAVE_EVERY = 100  # steps


def data() -> tuple[Tensor, Tensor]:
    """Noisy data of ten classes in 32 dimensions; put your own here."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(ROWS, 32, generator=generator)
    hidden = torch.tanh(x @ torch.randn(32, 32, generator=generator))
    scores = hidden @ torch.randn(32, 10, generator=generator)
    return x, (scores + 2 * torch.randn(ROWS, 10, generator=generator)).argmax(1)


X, Y = data()


def batches(position: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches from number `position` on: trials see the same ones, and a restart goes on at the right one."""
    while True:
        number, chunk = divmod(position, ROWS // BATCH)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(number))
        rows = order[chunk * BATCH : (chunk + 1) * BATCH]
        yield X[rows], Y[rows]
        position += 1


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: autolrs.Schedule) -> None:
    """The old file or the new one, whenever the process is killed."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def main(job: str, steps: int, checkpoints: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters())
    path = checkpoints / f"{job}.pt"
    saved = torch.load(path) if path.exists() else None
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])

    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    signal.signal(signal.SIGTERM, stop)
    resume = None if saved is None else saved["schedule"]
    with autolrs.Schedule(optimizer, model, total_steps=steps, job=job, resume=resume) as schedule:
        print(f"{job}: {'from the start' if saved is None else f'resumed at step {schedule.total_step}'}", flush=True)
        if saved is None:
            save(path, model, optimizer, schedule)  # what a restart within the first steps begins with
        steps_to_come = () if schedule.done else schedule.steps(batches)
        for count, (x, y) in enumerate(steps_to_come, start=1):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step(loss)
            if stopped or count % SAVE_EVERY == 0:
                save(path, model, optimizer, schedule)
            if stopped:
                sys.exit("stopped; the checkpoint is written")  # not 0: Kubernetes starts it again
        save(path, model, optimizer, schedule)
        print(f"{job}: done, {schedule.committed_step} steps kept", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--job", default="example")
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--checkpoints", type=Path, default=Path("."))
    main(**vars(arguments.parse_args()))
