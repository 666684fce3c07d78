"""A real training on real data in NumPy: 8 x 8 images of digits, one hidden layer, SGD with momentum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

DIGITS = Path(__file__).resolve().parents[3] / "client-rs/examples/data/digits.csv"
BATCH = 32
TRAIN = 1500


class Network:
    """The network, its optimizer, and its stream of batches by number."""

    def __init__(self, hidden: int = 24) -> None:
        rows = np.loadtxt(DIGITS, delimiter=",")
        self._x, self._y = rows[:, :64] / 16.0, rows[:, 64].astype(int)
        rng = np.random.default_rng(1)
        shapes = [(64, hidden), (hidden,), (hidden, 10), (10,)]
        self._weights = [rng.normal(size=s) / np.sqrt(s[0]) if len(s) == 2 else np.zeros(s) for s in shapes]
        self._momentum = [np.zeros(s) for s in shapes]

    def state(self) -> list[np.ndarray]:
        """A copy of everything that a step changes."""
        return [array.copy() for array in self._weights + self._momentum]

    def load(self, state: list[np.ndarray]) -> None:
        """Puts a copy back."""
        for array, saved in zip(self._weights + self._momentum, state):
            array[...] = saved

    def step(self, batch: int, lr: float) -> float:
        """Trains on batch number `batch`; the loss before the update."""
        number, chunk = divmod(batch, TRAIN // BATCH)
        rows = np.random.default_rng(number).permutation(TRAIN)[chunk * BATCH : (chunk + 1) * BATCH]
        with np.errstate(all="ignore"):
            loss, gradients = self._gradients(self._x[rows], self._y[rows])
            for weight, velocity, gradient in zip(self._weights, self._momentum, gradients):
                velocity *= 0.9
                velocity += gradient
                weight -= lr * velocity
        return loss

    def validation_loss(self) -> float:
        """On images that are not trained on."""
        with np.errstate(all="ignore"):
            return self._gradients(self._x[TRAIN:], self._y[TRAIN:])[0]

    def accuracy(self) -> float:
        """On images that are not trained on."""
        scores = self._forward(self._x[TRAIN:])[1]
        return float((scores.argmax(1) == self._y[TRAIN:]).mean())

    def _forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w1, b1, w2, b2 = self._weights
        hidden = np.maximum(x @ w1 + b1, 0.0)
        return hidden, hidden @ w2 + b2

    def _gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
        hidden, scores = self._forward(x)
        scores = scores - scores.max(1, keepdims=True)
        log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        d = np.exp(log_p)
        d[np.arange(len(y)), y] -= 1.0
        d /= len(y)
        dh = (d @ self._weights[2].T) * (hidden > 0)
        gradients = [x.T @ dh, dh.sum(0), hidden.T @ d, d.sum(0)]
        return float(-log_p[np.arange(len(y)), y].mean()), gradients
