"""Losses that are read late: reading one on a device waits for all that leads to it, so no step waits for its own.

Losses are collected between switch points, start to move to the host together, and are read at the next switch point,
when the copy has long been made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class LateLosses:
    """The losses that have not been read yet, oldest first.

    At a switch point the loss of the step right after the last switch point still decides, so what was collected
    starts to move one step *after* a switch point: by the next one the copy has long been made.

    Parameters
    ----------
    start : begins to copy losses to the host, and gives the function that reads them
    """

    def __init__(self, start: Callable[[list[Any]], Callable[[], list[float]]]) -> None:
        self._start = start
        self._collected: list[Any] = []
        self._read_moving: Callable[[], list[float]] | None = None
        self._move_next = True

    def add(self, loss: Any) -> None:
        """Keeps the loss of one more step; nothing is read."""
        self._collected.append(loss)
        if self._move_next:
            self._move_next = False
            self._read_moving = self._start(self._collected)
            self._collected = []

    def ripe(self) -> list[float]:
        """At a switch point: the losses up to that of the first step after the last switch point."""
        read, self._read_moving = self._read_moving, None
        self._move_next = True
        return read() if read is not None else []

    def drain(self) -> list[float]:
        """All of them; waits for the device."""
        rest, self._collected = self._collected, []
        return self.ripe() + self._start(rest)()

    def peek(self) -> list[float]:
        """All of them, which stay; waits for the device."""
        moving = self._read_moving() if self._read_moving is not None else []
        return moving + self._start(self._collected)()
