"""Small real images for the demo and the examples: Fashion-MNIST from Debian's package, else scikit-learn's digits."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Images:
    """A classification task; images are normalised, of shape (n, 1, height, width)."""

    name: str
    train: Batch
    test: Batch

    def batches(self, position: int, size: int, seed: int) -> Iterator[Batch]:
        """Endless shuffled batches from batch number `position` on; the order depends on the seed alone."""
        images, labels = self.train
        per_pass = len(labels) // size
        while True:
            number, first = divmod(position, per_pass)
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1_000_003 * seed + number))
            for chunk in range(first, per_pass):
                rows = order[chunk * size : (chunk + 1) * size]
                yield images[rows], labels[rows]
                position += 1


def load() -> Images:
    """The images that this machine has."""
    if FASHION_MNIST.is_dir():
        return Images("Fashion-MNIST", _fashion("train"), _fashion("t10k"))
    return _digits()


def small_cnn(images: Images, seed: int) -> nn.Module:
    """Two convolutions and a linear layer (about 20,000 weights)."""
    torch.manual_seed(seed)
    height, width = images.train[0].shape[2:]
    flat = 32 * ((height + 3) // 4) * ((width + 3) // 4)
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 10),
    )


def accuracy(model: nn.Module, batch: Batch) -> float:
    """Share of the images that the model puts into the right class."""
    model.eval()
    with torch.no_grad():
        right = (model(batch[0]).argmax(1) == batch[1]).float().mean().item()
    model.train()
    return right


def _fashion(part: str) -> Batch:
    images = _idx(FASHION_MNIST / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = _idx(FASHION_MNIST / f"{part}-labels-idx1-ubyte.gz", 8)
    return (images.float() / 255 - 0.286) / 0.353, labels.long()


def _idx(path: Path, header: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=header).copy())


def _digits() -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16 - 0.3
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1400], order[1400:]
    return Images("scikit-learn digits", (images[train], labels[train]), (images[test], labels[test]))
