"""A loop in numpy alone that hands its learning rate to the service.

Start the server first (`autolrs serve`), then `python plain_numpy.py [total steps]`.
"""

from __future__ import annotations

import sys

import digits
import numpy as np

import autolrs

train, test = digits.load()
random = np.random.default_rng(0)
shapes = [(64, 128), (128,), (128, 10), (10,)]
weights = [random.normal(size=shape) / np.sqrt(shape[0]) if len(shape) == 2 else np.zeros(shape) for shape in shapes]
momentum = [np.zeros(shape) for shape in shapes]


def forward(x: digits.Images) -> tuple[np.ndarray, np.ndarray]:
    """(hidden, probabilities)"""
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    scores = hidden @ weights[2] + weights[3]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def train_step(batch: digits.Batch, lr: float) -> float:
    x, y = batch
    hidden, probabilities = forward(x)
    loss = -np.log(probabilities[np.arange(len(y)), y] + 1e-30).mean()
    behind = (probabilities - np.eye(10)[y]) / len(y)
    before = (behind @ weights[2].T) * (hidden > 0)
    for each, m, gradient in zip(weights, momentum, [x.T @ before, before.sum(0), hidden.T @ behind, behind.sum(0)]):
        m *= 0.9
        m += gradient
        each -= lr * m
    return float(loss)


def restore(state: list[np.ndarray]) -> None:
    for live, saved in zip(weights + momentum, state):
        live[...] = saved


session = autolrs.Session(
    save=lambda: weights + momentum,
    restore=restore,
    total_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 3000,
    fallback_lr=0.01,
    lr_range=(1e-4, 10.0),
)
with session, np.errstate(all="ignore"):  # trials may diverge
    for batch in session.steps(digits.Batches(train)):
        loss = train_step(batch, session.lr)
        session.step(loss)
        if session.total_step % 250 == 0:
            print(f"{session.total_step:5d} {session.phase:8s} LR {session.lr:<9.3g} loss {loss:.3f}")

accuracy = (forward(test[0])[1].argmax(1) == test[1]).mean()
print(f"digits: test accuracy {accuracy:.4f}; {session.done_reason} after {session.total_step} steps")
