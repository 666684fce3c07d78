"""Slots in memory: on the tensors' own devices, or on the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autolrs._capture import Capture, Content, fits


class MemoryStore:
    """Keeps the contents of slots as tensors.

    Parameters
    ----------
    on_host : in host memory instead of on the tensors' own devices
    """

    def __init__(self, on_host: bool) -> None:
        self._on_host = on_host
        self._contents: dict[str, Content] = {}

    def save(self, name: str, capture: Capture) -> None:
        """Makes what `capture` finds the slot's content; an older one gives its memory."""
        self._contents[name] = capture(self._copied, self._contents.get(name, {}))

    def content(self, name: str) -> Content:
        """What the slot holds; the tensors are the slot's own."""
        return self._contents[name]

    def drop(self, name: str) -> None:
        """Frees the slot."""
        self._contents.pop(name, None)

    def names(self) -> list[str]:
        """The slots that hold something."""
        return list(self._contents)

    def place(self) -> str:
        """Where the slots are, to be told to people."""
        return "host memory" if self._on_host else "the memory of the model's device"

    def close(self) -> None:
        """Nothing: memory is freed with the store, and a checkpoint may still be asked for."""

    def _copied(self, live: Tensor, old: Any) -> Any:
        device = torch.device("cpu") if self._on_host else live.device
        if fits(old, live, device):
            return old.copy_(live)
        return live.detach().to(device=device, copy=True)
