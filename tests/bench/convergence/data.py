"""Real data that Debian has as packages: Fashion-MNIST's images, and the texts of `fortunes`."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FORTUNES = Path("/usr/share/games/fortunes")

PARTS = ("train", "validation", "test")
Images = dict[str, tuple[Tensor, Tensor]]


@cache
def fashion() -> Images:
    """Images of 14 x 14, halved from 28 x 28; the last 2,000 of the training set are for validation."""
    images, labels = _fashion("train")
    test_images, test_labels = _fashion("t10k")
    return {
        "train": (images[:-2000], labels[:-2000]),
        "validation": (images[-2000:], labels[-2000:]),
        "test": (test_images, test_labels),
    }


def only(images: Images, classes: range, train: int) -> Images:
    """The images of some classes, numbered from 0, and at most `train` of them to train on."""
    chosen = {}
    for part, (x, y) in images.items():
        rows = ((y >= classes.start) & (y < classes.stop)).nonzero().flatten()
        rows = rows[:train] if part == "train" else rows
        chosen[part] = (x[rows], y[rows] - classes.start)
    return chosen


@cache
def text() -> dict[str, Tensor]:
    """Bytes of about 2 MB of English: quotations and jokes in a fixed random order, 90 % to train on."""
    files = sorted(path for path in FORTUNES.iterdir() if path.is_file() and not path.suffix)
    pieces = [piece for path in files for piece in path.read_bytes().split(b"\n%\n") if piece.strip()]
    order = np.random.default_rng(0).permutation(len(pieces))
    joined = b"\n%\n".join(pieces[i] for i in order)
    data = torch.from_numpy(np.frombuffer(joined, np.uint8).copy()).long()
    cuts = [0, int(0.90 * len(data)), int(0.95 * len(data)), len(data)]
    return {part: data[cuts[i] : cuts[i + 1]] for i, part in enumerate(PARTS)}


def _fashion(part: str) -> tuple[Tensor, Tensor]:
    images = _idx(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).float()
    labels = _idx(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz", 8)
    return torch.nn.functional.avg_pool2d((images / 255 - 0.286) / 0.353, 2), labels.long()


def _idx(path: Path, header: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())
