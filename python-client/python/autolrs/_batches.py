"""Batches as values: copied, and measured in bytes. No framework is imported: tensors and arrays show what they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Batch = Any


def copy_of(batch: Batch) -> Batch:
    """The batch with its tensors and arrays copied, so that a step may change its own; other objects are shared.

    Tensors from loader workers live in shared memory, which is scarce: the copy does not.
    """
    if isinstance(batch, dict):
        copied = copy.copy(batch)
        for key, value in batch.items():
            copied[key] = copy_of(value)
        return copied
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(copy_of(value) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(copy_of(value) for value in batch)
    if hasattr(batch, "detach") and hasattr(batch, "clone"):
        return batch.detach().clone()
    if hasattr(batch, "nbytes") and hasattr(batch, "copy"):
        return batch.copy()
    return batch


def size_of(batch: Batch) -> int:
    """Bytes of the tensors and arrays in a batch, also in the attributes of its objects."""
    return _size(batch, set())


def _size(value: Any, seen: set[int]) -> int:
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if hasattr(value, "element_size"):
        return int(value.numel() * value.element_size())
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(each, seen) for each in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_size(each, seen) for each in value)
    return _size(vars(value), seen) if hasattr(value, "__dict__") else 0
