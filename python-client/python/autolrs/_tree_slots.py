"""Checkpoint slots for JAX: copies of a pytree that never leave the trainer.

A copy shares no buffer with the state that it was made of: a step may donate its argument. What is put back has the
type, the sharding and the placement of what was saved, so nothing is compiled anew.
"""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autolrs._exceptions import CheckpointMismatch


class TreeSlots:
    """The named slots of one trainer, and its live state.

    Parameters
    ----------
    live : pytree, what a step takes and gives
    on_host : keep the copies in host memory instead of on the arrays' own devices
    """

    def __init__(self, live: Any, on_host: bool) -> None:
        self.live = live
        self._on_host = on_host
        self._slots: dict[str, Any] = {}

    def save(self, name: str) -> None:
        copied = on_host if self._on_host else copy_of
        self._slots[name] = jax.tree_util.tree_map(copied, self.live)

    def restore(self, name: str) -> None:
        saved = self._slots[name]
        self.live = self._placed(saved) if self._on_host else jax.tree_util.tree_map(copy_of, saved)

    def drop(self, name: str) -> None:
        self._slots.pop(name, None)

    def names(self) -> list[str]:
        return list(self._slots)

    def content(self, name: str) -> dict[str, Any]:
        """The leaves in their order, as numpy arrays."""
        return {"leaves": [on_host(leaf) for leaf in jax.tree_util.tree_leaves(self._slots[name])]}

    def adopt(self, name: str, content: dict[str, Any]) -> None:
        structure = jax.tree_util.tree_structure(self.live)
        if structure.num_leaves != len(content["leaves"]):
            raise CheckpointMismatch(
                f"The checkpoint was written with a state of {len(content['leaves'])} arrays; this one has "
                f"{structure.num_leaves}. Pass a state of the same structure."
            )
        self.live = self._placed(jax.tree_util.tree_unflatten(structure, content["leaves"]))
        self.save(name)

    def _placed(self, saved: Any) -> Any:
        return jax.tree_util.tree_map(placed_like, self.live, saved)


def copy_of(leaf: Any) -> Any:
    """The leaf in memory of its own, where it is."""
    return jnp.copy(leaf) if isinstance(leaf, jax.Array) else copy.deepcopy(leaf)


def on_host(leaf: Any) -> Any:
    """The leaf as a numpy array of its own; a key as its data."""
    if isinstance(leaf, jax.Array):
        return np.array(jax.device_get(jax.random.key_data(leaf) if _is_key(leaf) else leaf))
    return copy.deepcopy(leaf)


def placed_like(leaf: Any, value: Any) -> Any:
    """A numpy array as a JAX array that is typed and placed like `leaf`."""
    if not isinstance(leaf, jax.Array):
        return copy.deepcopy(value)
    if _is_key(leaf):
        key = jax.random.wrap_key_data(jnp.array(value), impl=jax.random.key_impl(leaf))
        return jax.device_put(key, leaf.sharding) if leaf.committed else key
    if leaf.shape != np.shape(value):
        raise CheckpointMismatch(f"The checkpoint holds an array of shape {np.shape(value)} where {leaf.shape} is due.")
    array = np.asarray(value, dtype=leaf.dtype)
    if leaf.committed:
        return jax.device_put(array, leaf.sharding, may_alias=False)
    return jnp.array(array)  # copies


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))
