"""The file of one slot on disk: the bytes of its tensors, one after the other.

What they are (type, shape, place in the file, checksum) stays in memory, with everything that is no tensor. So nothing
is ever unpickled, and the file is of no use to anybody but the process that wrote it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from autolrs._capture import Capture, Content

# Where a tensor may begin in the file: a multiple of every element's size.
_ALIGNMENT = 64


class Damaged(Exception):
    """The file does not hold what was written."""


class SlotFile:
    """Written once, then read as often as you like. It is kept open: if somebody removes it, its content stays."""

    def __init__(self, path: Path, capture: Capture) -> None:
        """Writes what `capture` finds; on any error nothing is left at `path` that was not there before."""
        unfinished = path.with_suffix(".new")
        self._file: BinaryIO = open(unfinished, "w+b")
        try:
            self._content = capture(self._store, {})
            self._file.flush()
            os.fsync(self._file.fileno())
            self._size = self._file.tell()
            os.rename(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what it still holds does not fit either
                self._file.close()
            raise

    def content(self) -> Content:
        """The values that were written; tensors are private views of the file.

        Raises
        ------
        Damaged
            The file has changed since.
        """
        if os.fstat(self._file.fileno()).st_size != self._size:
            raise Damaged
        if not self._size:
            return self._content
        content: Content = _loaded(self._content, mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY))
        return content

    def close(self) -> None:
        """Views that are in use stay readable."""
        self._file.close()

    def _store(self, live: Tensor, old: Any) -> Any:
        """Appends the tensor's bytes. What is more than its bytes (sparse, quantised, a subclass) stays in memory."""
        values = live.detach()
        plain = type(values) is Tensor and values.layout is torch.strided and not values.is_quantized
        if not plain or not values.numel():
            return values.to(device="cpu", copy=True)
        dense = torch.empty_like(values, device="cpu").copy_(values)
        data: Any = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy()
        offset = self._file.seek(-self._file.tell() % _ALIGNMENT, os.SEEK_CUR)
        self._file.write(data)
        return _Stored(dense.dtype, dense.shape, dense.stride(), offset, zlib.crc32(data))


@dataclass(frozen=True)
class _Stored:
    """A tensor in the file. Its elements lie without gaps, in the order of its strides."""

    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    checksum: int

    def load(self, view: mmap.mmap) -> Any:
        flat = torch.frombuffer(view, dtype=self.dtype, count=self.shape.numel(), offset=self.offset)
        data: Any = flat.view(torch.uint8).numpy()
        if zlib.crc32(data) != self.checksum:
            raise Damaged
        return flat.as_strided(self.shape, self.stride)


def _loaded(kept: Any, view: mmap.mmap) -> Any:
    if isinstance(kept, _Stored):
        return kept.load(view)
    if isinstance(kept, Mapping):
        return {key: _loaded(value, view) for key, value in kept.items()}
    if isinstance(kept, (list, tuple)):
        return type(kept)([_loaded(value, view) for value in kept])
    return kept
