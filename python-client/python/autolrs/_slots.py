"""Checkpoint slots for PyTorch: copies of the trainer's state that never leave the trainer.

A slot's content is nested dicts and lists of tensors and plain values, keyed by names and indices, so the same
content serves in memory and in the user's checkpoint file. Restoring copies into the tensors that are there:
their storage addresses stay, the values are the saved ones to the bit. What did not exist when the slot was
saved (lazily created optimizer state, buffers, gradients) is removed again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from autolrs._capture import (
    Capture,
    Content,
    Keep,
    bytes_in,
    live_tensors,
    restore,
    restore_module,
    restore_optimizer,
    save,
    save_module,
    save_optimizer,
)
from autolrs._exceptions import CheckpointMismatch
from autolrs._keepers import keeper_of, restore_rng, save_rng

logger = logging.getLogger("autolrs")


class Store(Protocol):
    """Where the contents of slots are kept."""

    def save(self, name: str, capture: Capture) -> None:
        """Makes what `capture` finds the slot's content."""

    def content(self, name: str) -> Content:
        """What the slot holds; the tensors are not to be changed."""

    def drop(self, name: str) -> None:
        """Frees the slot."""

    def names(self) -> list[str]:
        """The slots that hold something."""

    def place(self) -> str:
        """Where that is, to be told to people."""

    def close(self) -> None:
        """Frees what would outlive the process."""


class TorchSlots:
    """The named slots of one trainer.

    Parameters
    ----------
    model, optimizer : what is trained
    also : further state: modules, optimizers, tensors, generators, or anything with `state_dict` and `load_state_dict`
    rng : keep the random number generators too (torch, its devices, `random`, numpy's global one)
    store : where the copies are kept
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, also: Sequence[object], rng: bool, store: Store) -> None:
        self._module = model
        self._optimizer = optimizer
        self._also = [keeper_of(thing) for thing in also]
        self._rng = rng
        self._store = store
        self._largest_logged = 0
        known = {id(parameter) for parameter in model.parameters()}
        self._loose = [
            parameter for group in optimizer.param_groups for parameter in group["params"] if id(parameter) not in known
        ]

    def save(self, name: str) -> None:
        """Copies the live state into the slot; an older content of that name is overwritten."""
        if name not in self.names():
            self._say_size()
        with torch.no_grad():
            self._store.save(name, self._capture)

    def restore(self, name: str) -> None:
        """Puts the slot's content back into the live state. The LR of the groups is the caller's to set."""
        self._put_back(self._store.content(name))

    def drop(self, name: str) -> None:
        """Frees the slot."""
        self._store.drop(name)

    def content(self, name: str) -> Content:
        """What the slot holds, for a checkpoint file; the tensors are the slot's own."""
        return self._store.content(name)

    def adopt(self, name: str, content: Content) -> None:
        """Takes a content from a checkpoint file as this slot and puts it into the live state."""
        self._put_back(content)
        self.save(name)

    def names(self) -> list[str]:
        """The slots that hold something."""
        return self._store.names()

    def close(self) -> None:
        """Frees what would outlive the process."""
        self._store.close()

    def size(self) -> int:
        """Bytes that a slot saved now would take."""
        live = [live_tensors(self._module), self._loose, list(self._optimizer.state.values())]
        return bytes_in(live + [keeper.live() for keeper in self._also])

    def _capture(self, keep: Keep, old: Content) -> Content:
        content: Content = {
            "model": save_module(self._module, old.get("model", {}), keep),
            "optimizer": save_optimizer(self._optimizer, old.get("optimizer", {}), keep),
            "loose": save(self._loose, old.get("loose"), keep),
            "also": [
                keeper.save(before, keep)
                for keeper, before in zip(self._also, old.get("also") or [{}] * len(self._also))
            ],
        }
        if self._rng:
            content["rng"] = save_rng()
        return content

    def _put_back(self, content: Content) -> None:
        if len(content["also"]) != len(self._also) or len(content["loose"]) != len(self._loose):
            raise CheckpointMismatch(
                "The checkpoint holds another number of objects than this trainer: "
                "pass the same model, optimizer and also=[...] as when it was written."
            )
        with torch.no_grad():
            restore_module(self._module, content["model"])
            restore(self._loose, content["loose"])
            restore_optimizer(self._optimizer, content["optimizer"])
            for keeper, saved in zip(self._also, content["also"]):
                keeper.restore(saved)
        if self._rng and "rng" in content:
            restore_rng(content["rng"])

    def _say_size(self) -> None:
        size = self.size()
        if size > 1.1 * self._largest_logged:
            self._largest_logged = size
            place = self._store.place()
            logger.info("a checkpoint slot takes %.1f MB of %s; at most two are kept", size / 1e6, place)
