"""Which batches a directive is run on: the stream follows the slots.

Trials that see the same batches are compared far more precisely, so a search asks for the batches that followed a
slot's save once more. After it the stream goes on where it was furthest: no batch is skipped or trained on twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolrs._streams import Mark, Stream


class Replay:
    """Follows the slots, and moves the stream as directives ask."""

    def __init__(self, stream: Stream, on: bool) -> None:
        self.stream = stream
        self._on = on
        self._marks: dict[str, Mark] = {}

    def follow(self, ops: Sequence[tuple[str, str]], searching: bool, replay: bool) -> None:
        """A directive with these slot operations begins."""
        restored: str | None = None
        for op, slot in ops:
            if op == "save":
                self._marks[slot] = self.stream.mark()
            elif op == "restore":
                restored = slot
            else:
                self._marks.pop(slot, None)
        if restored is not None:
            mark = self._marks.get(restored)
            if replay and self._on and mark is not None:
                self.stream.rewind(mark)
            else:
                self.stream.forward()
        self.stream.keep(searching and self._on)

    @property
    def able(self) -> bool:
        """Whether the batches of a trial can be given again."""
        return self._on and self.stream.able

    def give_up(self) -> None:
        """From here on every batch is a new one."""
        if self._on:
            self._on = False
            self.stream.keep(False)

    def set_mark(self, slot: str, mark: Mark) -> None:
        """The slot came from a checkpoint that was written at `mark`."""
        self._marks[slot] = mark

    def mark(self, slot: str | None) -> Mark:
        """Where the stream was when the slot was saved; without a slot (or its mark) where it is now."""
        saved = self._marks.get(slot) if slot is not None else None
        return saved if saved is not None else self.stream.mark()
