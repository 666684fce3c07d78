"""The learning rates inside of a JAX training state, where `optax.inject_hyperparams` keeps them.

A learning rate that is part of the state is an argument of the compiled step: another value compiles nothing anew, as
long as its type, its sharding and its placement stay. Nothing of optax is imported: its states are recognised by the
names on the way to a leaf.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from autolrs._exceptions import InvalidSpec, Unsupported
from autolrs._tree_slots import placed_like


class InjectedLRs:
    """The leaves `hyperparams[name]` of a state; each keeps its initial ratio to the largest."""

    def __init__(self, state: Any, name: str) -> None:
        self._name = name
        self._find(state)
        self.base = 0.0
        self.ratios: list[float] = []
        if self._places:
            initial = self.read(state)
            self.base = max(initial)
            if not self.base > 0.0:
                raise InvalidSpec(f"{name} is 0 in the optimizer's state: give it the LR you would train with.")
            self.ratios = [lr / self.base for lr in initial]

    def __len__(self) -> int:
        return len(self._places)

    def load(self, base: float, ratios: list[float]) -> None:
        """Takes over what a checkpoint says: the state's own LRs are those of that moment."""
        if len(ratios) == len(self._places):
            self.base, self.ratios = base, list(ratios)

    def put(self, state: Any, lr: float) -> Any:
        """The state with `lr`, the LR of the largest, in it."""
        leaves, structure = jax.tree_util.tree_flatten(state)
        if structure != self._structure:
            self._find(state)
        for place, ratio in zip(self._places, self.ratios):
            leaves[place] = _number_like(leaves[place], lr if ratio == 1.0 else lr * ratio)
        return jax.tree_util.tree_unflatten(structure, leaves)

    def read(self, state: Any) -> list[float]:
        """What is in the state; waits for the device."""
        leaves = jax.tree_util.tree_leaves(state)
        return [float(leaves[place]) for place in self._places]

    def holds(self, state: Any, lr: float) -> bool:
        """Whether that LR is in force in this state; waits for the device."""
        wanted = jax.tree_util.tree_leaves(self.put(state, lr))
        leaves = jax.tree_util.tree_leaves(state)
        return all(float(leaves[place]) == float(wanted[place]) for place in self._places)

    @property
    def dtype(self) -> Any:
        """The type of the LR in the state; float32 if there is none."""
        return self._dtype

    def _find(self, state: Any) -> None:
        paths, self._structure = jax.tree_util.tree_flatten_with_path(state)
        ways = [[_name_of(key) for key in path] for path, _ in paths]
        for way in ways:
            if any(pair == ("hyperparams_states", self._name) for pair in zip(way, way[1:])):
                raise Unsupported(
                    f"The optimizer's {self._name} is a schedule of optax, which would overrule this one. Give "
                    f"optax.inject_hyperparams a number instead: inject_hyperparams(optax.adam)({self._name}=1e-3)."
                )
        self._places = [number for number, way in enumerate(ways) if way[-2:] == ["hyperparams", self._name]]
        self._dtype = getattr(paths[self._places[0]][1], "dtype", np.float32) if self._places else np.float32


def _name_of(key: Any) -> Any:
    """The name of one step on the way to a leaf: of an attribute, a dict's key, an index."""
    for kind in ("name", "key", "idx"):
        if hasattr(key, kind):
            return getattr(key, kind)
    return None


def _number_like(leaf: Any, value: float) -> Any:
    """The number as an array of the leaf's type and placement. A Python number's type is weak: it would be another."""
    like = leaf if isinstance(leaf, jax.Array) else jax.numpy.zeros((), getattr(leaf, "dtype", np.float32))
    return placed_like(like, np.full(like.shape, value, dtype=like.dtype))
