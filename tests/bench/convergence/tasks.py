"""The tasks: small relatives of what people train, and of the paper's three families, on real data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from convergence import data, models

# LRs that a rival's is chosen from: half a decade apart, over what our policies may try with that family.
SGD_GRID = [10 ** (k / 2) for k in range(-8, 3)]
ADAM_GRID = [10 ** (k / 2) for k in range(-12, 0)]

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Training:
    """A model with its data, ready to be trained."""

    model: nn.Module
    batches: Callable[[int], Iterator[Batch]]
    loss: Callable[[Batch], Tensor]
    # (loss, metric) on "validation" or "test".
    evaluate: Callable[[str], tuple[float, float]]


@dataclass(frozen=True)
class Task:
    """A task; `metric` is what the table shows, lower is better."""

    name: str
    metric: str
    family: str
    grid: list[float]
    optimizer: Callable[[Any, float], Optimizer]
    make: Callable[[int], Training]
    # Where validation loss is of use to a policy as well as training loss.
    batch_norm: bool = False


def _batches(size: int, count: int, seed: int) -> Callable[[int], Iterator[Tensor]]:
    """Rows of endless shuffled batches from a position on; the order depends on the seed alone."""

    def rows(position: int) -> Iterator[Tensor]:
        while True:
            number, first = divmod(position, count // size)
            order = torch.randperm(count, generator=torch.Generator().manual_seed(1_000_003 * seed + number))
            for chunk in range(first, count // size):
                yield order[chunk * size : (chunk + 1) * size]
                position += 1

    return rows


def images_training(model: nn.Module, images: data.Images, size: int, seed: int) -> Training:
    """A classifier of images."""
    x, y = images["train"]
    rows = _batches(size, len(y), seed)

    def evaluate(part: str) -> tuple[float, float]:
        with torch.no_grad():
            scores, labels = model(images[part][0]), images[part][1]
            wrong = (scores.argmax(1) != labels).float().mean().item()
            return nn.functional.cross_entropy(scores, labels).item(), 100 * wrong

    return Training(
        model,
        lambda position: ((x[r], y[r]) for r in rows(position)),
        lambda batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        _in_eval_mode(model, evaluate),
    )


def _in_eval_mode(
    model: nn.Module, evaluate: Callable[[str], tuple[float, float]]
) -> Callable[[str], tuple[float, float]]:
    def evaluated(part: str) -> tuple[float, float]:
        model.eval()
        try:
            return evaluate(part)
        finally:
            model.train()

    return evaluated


def perceptron(seed: int) -> Training:
    torch.manual_seed(seed)
    return images_training(models.perceptron(10), data.fashion(), 64, seed)


def resnet(seed: int) -> Training:
    torch.manual_seed(seed)
    return images_training(models.resnet(10), data.fashion(), 32, seed)


@cache
def _pretrained() -> dict[str, Tensor]:
    """A ResNet that tells the first five classes apart: 1,500 steps, kept until the network's source changes."""
    path = Path(f"target/bench/pretrained-{crc32(Path(models.__file__).read_bytes()):08x}.pt")
    if not path.exists():
        torch.manual_seed(1000)
        training = images_training(models.resnet(5), data.only(data.fashion(), range(5), 60_000), 32, 1000)
        optimizer = SGD(training.model.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 1500)
        stream = training.batches(0)
        for _ in range(1500):
            optimizer.zero_grad()
            training.loss(next(stream)).backward()
            optimizer.step()
            schedule.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{torch.randint(1 << 30, ()).item()}")
        torch.save(training.model.state_dict(), partial)
        partial.replace(path)
    return dict(torch.load(path))


def fine_tuning(seed: int) -> Training:
    """All weights, on 1,000 images of the other five classes, with a new classifier."""
    model = models.resnet(5)
    model.load_state_dict(_pretrained())
    torch.manual_seed(seed)
    model[-1] = nn.Linear(32, 5)
    return images_training(model, data.only(data.fashion(), range(5, 10), 1000), 32, seed)


LENGTH = 32


def _windows(part: str, count: int) -> Tensor:
    """`count` windows of a text, evenly spaced."""
    text = data.text()[part]
    starts = torch.linspace(0, len(text) - LENGTH - 1, count).long()
    return text[starts[:, None] + torch.arange(LENGTH + 1)]


def _text_batches(size: int, seed: int) -> Callable[[int], Iterator[Tensor]]:
    """Windows of the training text from a position on."""

    def windows(position: int) -> Iterator[Tensor]:
        text = data.text()["train"]
        while True:
            generator = torch.Generator().manual_seed(1_000_003 * seed + position)
            starts = torch.randint(len(text) - LENGTH - 1, (size,), generator=generator)
            yield text[starts[:, None] + torch.arange(LENGTH + 1)]
            position += 1

    return windows


def _text(model: nn.Module, pairs: Callable[[Tensor, int], Batch], size: int, seed: int) -> Training:
    """`pairs` makes input and target of windows, with a seed; targets of -100 are not predicted."""
    windows = _text_batches(size, seed)

    def loss(batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]).transpose(1, 2), batch[1])

    def batches(position: int) -> Iterator[Batch]:
        for number, window in enumerate(windows(position), start=position):
            yield pairs(window, 1_000_003 * seed + number)

    def evaluate(part: str) -> tuple[float, float]:
        with torch.no_grad():
            mean = loss(pairs(_windows(part, 256), 0)).item()
        return mean, mean / math.log(2)

    return Training(model, batches, loss, _in_eval_mode(model, evaluate))


def transformer(seed: int) -> Training:
    torch.manual_seed(seed)
    return _text(models.Transformer(LENGTH), lambda windows, _: (windows[:, :-1], windows[:, 1:]), 8, seed)


def masked(seed: int) -> Training:
    """15 % of the bytes are hidden and to be told from those around them (Devlin et al. 2019, masks only)."""

    def pairs(windows: Tensor, number: int) -> Batch:
        windows = windows[:, :-1]
        hidden = torch.rand(windows.shape, generator=torch.Generator().manual_seed(number)) < 0.15
        return windows.masked_fill(hidden, 256), windows.masked_fill(~hidden, -100)

    torch.manual_seed(seed)
    return _text(models.Transformer(LENGTH, causal=False), pairs, 8, seed)


def _sgd(parameters: Any, lr: float) -> Optimizer:
    return SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4)


def _adamw(parameters: Any, lr: float) -> Optimizer:
    return AdamW(parameters, lr=lr, weight_decay=0.01, foreach=True)


def _rmsprop(parameters: Any, lr: float) -> Optimizer:
    return RMSprop(parameters, lr=lr)


TASKS = {
    task.name: task
    for task in (
        Task("perceptron", "test error %", "rmsprop", ADAM_GRID, _rmsprop, perceptron),
        Task("resnet", "test error %", "sgd", SGD_GRID, _sgd, resnet, batch_norm=True),
        Task("transformer", "bits per byte", "adamw", ADAM_GRID, _adamw, transformer),
        Task("bert", "bits per masked byte", "adamw", ADAM_GRID, _adamw, masked),
        Task("fine-tuning", "test error %", "sgd", SGD_GRID, _sgd, fine_tuning, batch_norm=True),
    )
}
