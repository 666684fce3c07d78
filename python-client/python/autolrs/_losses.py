"""The losses of a PyTorch training, on a device or on the host."""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import Tensor

from autolrs._late_losses import LateLosses

Loss = Union[float, Tensor]


def host_value(loss: Loss) -> float:
    """The loss as a float; for losses that are on the host."""
    # item(), as newer releases warn at float() of a tensor that has a gradient.
    return float(_one_number(loss).item() if isinstance(loss, Tensor) else loss)


class DeviceLosses(LateLosses):
    """Losses on a device, and plain numbers among them."""

    def __init__(self) -> None:
        super().__init__(lambda losses: _Transfer(losses).read)

    def add(self, loss: Loss) -> None:
        """Keeps the loss of one more step; nothing is read."""
        if isinstance(loss, Tensor):
            super().add(loss.detach() if loss.dim() == 0 else _one_number(loss).detach().reshape(()))
        else:
            super().add(float(loss))


class HostLosses:
    """The same for losses on the host: they are read at once, and due at every switch point."""

    def __init__(self) -> None:
        self._losses: list[float] = []

    def add(self, loss: Loss) -> None:
        """Keeps the loss of one more step."""
        self._losses.append(loss if type(loss) is float else host_value(loss))

    def ripe(self) -> list[float]:
        """All of them."""
        return self.drain()

    def drain(self) -> list[float]:
        """All of them."""
        losses, self._losses = self._losses, []
        return losses

    def peek(self) -> list[float]:
        """All of them, which stay."""
        return list(self._losses)


class _Transfer:
    """One copy to the host under way."""

    def __init__(self, losses: list[Loss]) -> None:
        tensors = [loss for loss in losses if isinstance(loss, Tensor)]
        self._losses = losses
        self._copied: Any = None  # a CUDA event
        self._host: Tensor | None = None
        if tensors:
            self._start(torch.stack(tensors))

    def _start(self, values: Tensor) -> None:
        if values.device.type != "cuda":
            self._host = values
            return
        cuda: Any = torch.cuda  # partly untyped in older releases
        self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._host.copy_(values, non_blocking=True)
        self._copied = cuda.Event()
        self._copied.record()

    def read(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        moved = iter(self._host.tolist() if self._host is not None else [])
        return [next(moved) if isinstance(loss, Tensor) else loss for loss in self._losses]


def _one_number(loss: Tensor) -> Tensor:
    if loss.numel() != 1:
        raise ValueError(f"step(loss) needs one number, not a tensor of shape {tuple(loss.shape)}: use loss.mean().")
    return loss
