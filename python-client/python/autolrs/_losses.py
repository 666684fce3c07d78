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
    # item(), as newer releases warn at float() of a tensor that has a gradient.
    return float(_one_number(loss).item() if isinstance(loss, Tensor) else loss)


class DeviceLosses:
    """The losses that have not been read yet, oldest first.

    At a switch point the loss of the step right after the last switch point still decides, so what was collected
    starts to move one step *after* a switch point: by the next one the copy has long been made.
    """

    def __init__(self) -> None:
        self._collected: list[Loss] = []
        self._moving: _Transfer | None = None
        self._move_next = True

    def add(self, loss: Loss) -> None:
        """Keeps the loss of one more step; nothing is read."""
        if isinstance(loss, Tensor):
            scalar = loss.detach() if loss.dim() == 0 else _one_number(loss).detach().reshape(())
            self._collected.append(scalar)
        else:
            self._collected.append(float(loss))
        if self._move_next:
            self._move_next = False
            self._moving = _Transfer(self._collected)
            self._collected = []

    def ripe(self) -> list[float]:
        """At a switch point: the losses up to that of the first step after the last switch point."""
        ripe = self._moving.read() if self._moving is not None else []
        self._moving = None
        self._move_next = True
        return ripe

    def drain(self) -> list[float]:
        """All of them; waits for the device."""
        losses = self.ripe() + _Transfer(self._collected).read()
        self._collected = []
        return losses

    def peek(self) -> list[float]:
        """All of them, which stay; waits for the device."""
        moving = self._moving.read() if self._moving is not None else []
        return moving + _Transfer(self._collected).read()


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
