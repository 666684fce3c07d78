"""What a slot holds besides model and optimizer: the user's `also=[...]`, and the random number generators."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autolrs._capture import (
    Content,
    Keep,
    live_tensors,
    restore,
    restore_module,
    restore_optimizer,
    save,
    save_module,
    save_optimizer,
)

# -- further state -----------------------------------------------------------------------------------------------


class Keeper:
    """Saves and restores one object of `also`."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def live(self) -> Any:
        """What is there now; not copied."""
        return self._thing.state_dict()

    def save(self, old: Content, keep: Keep) -> Content:
        return {"state": save(self.live(), old.get("state"), keep)}

    def restore(self, saved: Content) -> None:
        self._thing.load_state_dict(restore(None, saved["state"]))


class _ModuleKeeper(Keeper):
    def live(self) -> Any:
        return live_tensors(self._thing)

    def save(self, old: Content, keep: Keep) -> Content:
        return save_module(self._thing, old, keep)

    def restore(self, saved: Content) -> None:
        restore_module(self._thing, saved)


class _OptimizerKeeper(Keeper):
    def live(self) -> Any:
        return list(self._thing.state.values())

    def save(self, old: Content, keep: Keep) -> Content:
        return save_optimizer(self._thing, old, keep)

    def restore(self, saved: Content) -> None:
        restore_optimizer(self._thing, saved)


class _TensorKeeper(Keeper):
    def live(self) -> Any:
        return self._thing

    def restore(self, saved: Content) -> None:
        self._thing.copy_(saved["state"])


class _GeneratorKeeper(Keeper):
    def live(self) -> Any:
        return self._thing.get_state()

    def restore(self, saved: Content) -> None:
        self._thing.set_state(saved["state"].cpu())


def keeper_of(thing: object) -> Keeper:
    if isinstance(thing, nn.Module):
        return _ModuleKeeper(thing)
    if isinstance(thing, Optimizer):
        return _OptimizerKeeper(thing)
    if isinstance(thing, Tensor):
        return _TensorKeeper(thing)
    if isinstance(thing, torch.Generator):
        return _GeneratorKeeper(thing)
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return Keeper(thing)
    raise TypeError(
        f"also=[...] can't keep a {type(thing).__name__}: it needs state_dict() and load_state_dict(), or to be "
        "a module, an optimizer, a tensor or a torch.Generator."
    )


# -- random number generators ------------------------------------------------------------------------------------


def save_rng() -> Content:
    state: Content = {"torch": torch.get_rng_state(), "python": list(random.getstate())}
    cuda: Any = torch.cuda  # partly untyped in older releases
    if cuda.is_available() and cuda.is_initialized():
        state["cuda"] = cuda.get_rng_state_all()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, gauss = numpy.random.get_state()
        state["numpy"] = [name, [int(key) for key in keys], position, has_gauss, gauss]
    return state


def restore_rng(state: Content) -> None:
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    if "numpy" in state:
        import numpy

        name, keys, position, has_gauss, gauss = state["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype="uint32"), position, has_gauss, gauss))
