"""Losses on their way from a device to the host.

Reading a device loss waits for everything queued on the device, so it is never done per step: losses are collected
between switch points, copied in one piece without waiting, and read at the next switch point, when the copy has
long been made.
"""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import Tensor

Loss = Union[float, Tensor]


def host_value(loss: Loss) -> float:
    """The loss as a float; for losses that are on the host."""
    return float(_one_number(loss) if isinstance(loss, Tensor) else loss)


class DeviceLosses:
    """The losses that have not been read yet, oldest first."""

    def __init__(self) -> None:
        self._collected: list[Loss] = []
        self._moving: _Transfer | None = None

    def add(self, loss: Loss) -> None:
        """Keeps the loss of one more step; nothing is read."""
        if isinstance(loss, Tensor):
            scalar = loss.detach() if loss.dim() == 0 else _one_number(loss).detach().reshape(())
            self._collected.append(scalar)
        else:
            self._collected.append(float(loss))

    def ripe(self) -> list[float]:
        """At a switch point: the losses collected before the last one. Those since then start to move."""
        ripe = self._moving.read() if self._moving is not None else []
        self._moving = _Transfer(self._collected) if self._collected else None
        self._collected = []
        return ripe

    def drain(self) -> list[float]:
        """All of them; waits for the device."""
        return self.ripe() + self.ripe()


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
