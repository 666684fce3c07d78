"""A small real training in numpy alone, for `autolrs.Session`; run as a program, a trainer that can be killed.

    python numpy_trainer.py ADDRESS JOB DIRECTORY [--pause SECONDS]

writes DIRECTORY/checkpoint.pickle at its start and every 20 steps, goes on from it if it is there, and at the end
writes DIRECTORY/result.pickle: (total_step, lr) of every step that the job is made of, and the weights.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import autolrs

TOTAL_STEPS = 800  # scan searches from 720 on
LR_RANGE = (1e-4, 10.0)
ROWS, BATCH = 640, 32

Schedule = list[tuple[int, float]]
Batch = tuple[np.ndarray, np.ndarray]

_random = np.random.default_rng(7)
X = _random.normal(size=(ROWS, 16))
Y = (np.tanh(X @ _random.normal(size=(16, 8))) @ _random.normal(size=(8, 3))).argmax(1)


def batches(position: int) -> Iterator[Batch]:
    """The batches from number `position` on; 20 in a pass."""
    while True:
        number, chunk = divmod(position, ROWS // BATCH)
        rows = np.random.default_rng(number).permutation(ROWS)[chunk * BATCH : (chunk + 1) * BATCH]
        yield X[rows], Y[rows]
        position += 1


class Trainer:
    """Softmax regression by SGD with momentum; noise on the inputs comes from a generator of its own."""

    def __init__(self) -> None:
        self.weights = np.zeros((16, 3))
        self.momentum = np.zeros((16, 3))
        self.noise = np.random.default_rng(3)

    def step(self, batch: Batch, lr: float) -> float:
        x = batch[0] + 0.1 * self.noise.normal(size=batch[0].shape)
        loss, probabilities = self._forward(x, batch[1])
        gradient = x.T @ (probabilities - np.eye(3)[batch[1]]) / len(x)
        self.momentum = 0.9 * self.momentum + gradient
        self.weights -= lr * self.momentum  # in place: a copy that shares memory would follow
        return loss

    def loss(self) -> float:
        return self._forward(X, Y)[0]

    def _forward(self, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        scores = x @ self.weights
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities = scores / scores.sum(axis=1, keepdims=True)
        return float(-np.log(probabilities[np.arange(len(y)), y] + 1e-30).mean()), probabilities

    def state(self) -> dict[str, Any]:
        """The live objects, not copies."""
        return {"weights": self.weights, "momentum": self.momentum, "noise": self.noise.bit_generator.state}

    def load(self, state: dict[str, Any]) -> None:
        self.weights, self.momentum = state["weights"], state["momentum"]
        self.noise.bit_generator.state = state["noise"]


def open_session(trainer: Trainer, address: str, job: str, **options: Any) -> autolrs.Session:
    options = {"fallback_lr": 0.01, "lr_range": LR_RANGE, **options}
    return autolrs.Session(trainer.state, trainer.load, TOTAL_STEPS, server=address, job=job, **options)


def lrs(session: autolrs.Session) -> Schedule:
    return [(step.total_step, step.lr) for step in session.history]


def undisturbed(address: str, job: str, **options: Any) -> tuple[Schedule, Trainer]:
    trainer = Trainer()
    with open_session(trainer, address, job, **options) as session:
        for batch in session.steps(batches):
            session.step(trainer.step(batch, session.lr))
    return lrs(session), trainer


def save(path: Path, trainer: Trainer, session: autolrs.Session) -> None:
    """The old file or the new one, whenever the process is killed."""
    path.with_suffix(".new").write_bytes(pickle.dumps((trainer.state(), session.state_dict())))
    os.replace(path.with_suffix(".new"), path)


def main(address: str, job: str, directory: Path, pause: float) -> None:
    checkpoint = directory / "checkpoint.pickle"
    trainer, resume = Trainer(), None
    if checkpoint.exists():
        state, resume = pickle.loads(checkpoint.read_bytes())
        trainer.load(state)
    with open_session(trainer, address, job, resume=resume) as session:
        if resume is None:
            save(checkpoint, trainer, session)
        for count, batch in enumerate(session.steps(batches), start=1):
            session.step(trainer.step(batch, session.lr))
            time.sleep(pause)
            if count % 20 == 0:
                save(checkpoint, trainer, session)
                print(session.total_step, session.phase, flush=True)
    (directory / "result.pickle").write_bytes(pickle.dumps((lrs(session), trainer.weights)))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("job")
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--pause", type=float, default=0.0)
    main(**vars(arguments.parse_args()))
