"""Handwritten digits, 8 x 8 pixels, as numpy arrays; and a network's accuracy on those that were held back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parents[2] / "client-rs/examples/data/digits.csv"

Images = np.ndarray  # (rows, 64), from 0 to 1
Labels = np.ndarray  # (rows,), from 0 to 9
Batch = tuple[Images, Labels]


def load() -> tuple[Batch, Batch]:
    """What to train with, and 297 images to test with."""
    table = np.loadtxt(FILE, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, labels = table[:, :64] / 16, table[:, 64].astype(np.int32)
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


class Batches:
    """The images in an order that is drawn anew for every pass, `size` at a time.

    Called with a position it gives the batches from that one on: for `schedule.steps`.
    """

    def __init__(self, data: Batch, size: int = 50) -> None:
        self._data = data
        self._size = size
        self.in_a_pass = len(data[1]) // size

    def __call__(self, position: int) -> Iterator[Batch]:
        while True:
            number, chunk = divmod(position, self.in_a_pass)
            order = np.random.default_rng(number).permutation(len(self._data[1]))
            rows = order[chunk * self._size : (chunk + 1) * self._size]
            yield self._data[0][rows], self._data[1][rows]
            position += 1
