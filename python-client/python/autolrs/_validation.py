"""Measuring a validation loss without leaving a trace in the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from autolrs._keepers import restore_rng, save_rng


@contextmanager
def evaluation(modules: Sequence[nn.Module]) -> Iterator[None]:
    """In evaluation mode, without gradients; afterwards all modes and random number generators are as before."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    generators = save_rng()
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        restore_rng(generators)
