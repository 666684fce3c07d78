"""The ranks of a PyTorch training, and how they speak with each other: gloo on the host, whatever the training uses,
so that nothing waits for a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from autolrs._exceptions import Error

distributed: Any = torch.distributed  # partly untyped in older releases

# Seconds that a rank may be late: it may be writing a checkpoint. As long as PyTorch's own default.
_SLOWEST_RANK = 1800.0
_YEAR = 365 * 86_400.0


def channel_of_ranks(longest_wait: float) -> GlooChannel | None:
    """The way to the other ranks, if there are any. Rank 0 may wait `longest_wait` seconds for the server meanwhile."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return None
    return GlooChannel(longest_wait)


def replica(model: nn.Module) -> nn.Module:
    """The model that is trained, if `model` is what synchronises its gradients."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


class GlooChannel:
    """A process group of its own over all ranks; made by all of them at the same time."""

    def __init__(self, longest_wait: float) -> None:
        if not distributed.is_gloo_available():
            raise Error("Several processes need PyTorch's gloo backend, which this PyTorch was built without.")
        timeout = timedelta(seconds=min(_SLOWEST_RANK + longest_wait, _YEAR))
        self._group = distributed.new_group(backend="gloo", timeout=timeout)
        self.rank: int = distributed.get_rank()
        self.size: int = distributed.get_world_size()

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        values = [value]
        with _others_reached():
            distributed.broadcast_object_list(values, src=0, group=self._group, device=torch.device("cpu"))
        return values[0]

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sum over the ranks, number by number."""
        total = torch.tensor(numbers, dtype=torch.float64, device="cpu")
        with _others_reached():
            distributed.all_reduce(total, group=self._group)
        return [float(number) for number in total.tolist()]


@contextmanager
def _others_reached() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise Error(
            "The other ranks can't be reached: one has ended, or has left the training loop. The first error of all "
            "ranks says why."
        ) from error
