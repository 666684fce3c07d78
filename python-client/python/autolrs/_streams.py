"""Streams of batches over a user's loader: pass after pass, and back to a mark. Three ways, best first:

- the loader is a function `loader(position)` that gives an iterator from that batch on: it is called again;
- the loader has `state_dict` and `load_state_dict` (torchdata): its state is put back;
- any other iterable: batches are kept, as the loader gave them, up to a limit in bytes.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autolrs._batches import Batch, copy_of, size_of
from autolrs._exceptions import AutoLRSWarning, Error


@dataclass(frozen=True)
class Mark:
    """A place in the stream: batches drawn before it, the pass it is in, and the loader's own state if it has one."""

    position: int = 0
    number_of_pass: int = 0
    state: Any = None


class Stream(ABC):
    """An endless sequence of batches that can go back to a mark."""

    @abstractmethod
    def draw(self) -> Batch:
        """The next batch."""

    @abstractmethod
    def mark(self) -> Mark:
        """Where the next batch comes from."""

    @abstractmethod
    def rewind(self, mark: Mark) -> None:
        """Goes on at `mark`; stays where it is if that place is out of reach."""

    @abstractmethod
    def forward(self) -> None:
        """Goes on at the furthest place so far."""

    @abstractmethod
    def keep(self, on: bool) -> None:
        """Whether the batches drawn from now on may be asked for again."""

    @abstractmethod
    def restart(self) -> None:
        """Goes on at the same place with a new iterator of the loader: an interrupt may have killed the workers of the
        old one."""

    @property
    def able(self) -> bool:
        """Whether it can go back to a mark."""
        return True


def open_stream(loader: Any, accumulate: int, replay: str, replay_mb: float, start: Mark) -> Stream:
    """The stream for what the user passed to `steps()`."""
    if replay not in ("auto", "off"):
        raise ValueError(f'replay must be "auto" or "off", not {replay!r}')
    if accumulate < 1:
        raise ValueError(f"accumulate must be at least 1, not {accumulate}")
    stream: Stream
    if callable(loader) and not hasattr(loader, "__iter__"):
        stream = FunctionStream(loader, start)
    elif hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict"):
        stream = StatefulStream(loader, start)
    else:
        stream = KeptStream(loader, int(replay_mb * 2**20) if replay == "auto" else 0, start)
    return stream if accumulate == 1 else Accumulated(stream, accumulate)


class Passes:
    """Repeats an iterable loader for ever, and tells it and its sampler the number of the pass."""

    def __init__(self, loader: Any, number: int) -> None:
        self._loader = loader
        self._iterator: Iterator[Batch] | None = None
        self._drawn = 0
        self.number = number

    def draw(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._start()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self.number += 1
            self._iterator = self._start()
            batch = self._first_of_pass(self._iterator)
        self._drawn += 1
        return batch

    def restart(self) -> None:
        """The next batch begins a pass."""
        self._iterator = None

    def _start(self) -> Iterator[Batch]:
        sampler: Any = getattr(self._loader, "sampler", None)
        for owner in (self._loader, sampler):
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(self.number)
        return iter(self._loader)

    def _first_of_pass(self, iterator: Iterator[Batch]) -> Batch:
        try:
            return next(iterator)
        except StopIteration:
            raise Error(
                f"The loader is exhausted after {self._drawn} batches and can't be iterated again, but the budget "
                "is not spent: pass a DataLoader or a list instead of a generator, or lower total_steps."
            ) from None


class KeptStream(Stream):
    """Any iterable; the batches of a search are kept in memory."""

    def __init__(self, loader: Any, limit_bytes: int, start: Mark) -> None:
        self._passes = Passes(loader, start.number_of_pass)
        self._limit = limit_bytes
        self._kept: list[Batch] = []
        self._kept_from = start.position
        self._kept_bytes = 0
        self._position = start.position
        self._keeping = False

    @property
    def _furthest(self) -> int:
        return self._kept_from + len(self._kept)

    def draw(self) -> Batch:
        if self._position < self._furthest:
            batch = copy_of(self._kept[self._position - self._kept_from])
            self._position += 1
            return batch
        batch = self._passes.draw()
        self._position += 1
        if self._keeping:
            self._hold(batch)
        else:
            self._kept_from = self._position
        return batch

    def mark(self) -> Mark:
        return Mark(self._position, self._passes.number)

    def rewind(self, mark: Mark) -> None:
        if self._kept_from <= mark.position <= self._furthest:
            self._position = mark.position

    def forward(self) -> None:
        self._position = self._furthest

    @property
    def able(self) -> bool:
        return self._limit > 0

    def keep(self, on: bool) -> None:
        self._keeping = on and self._limit > 0
        if not self._keeping:
            self._clear()

    def restart(self) -> None:
        self._passes.restart()

    def _hold(self, batch: Batch) -> None:
        self._kept_bytes += size_of(batch)
        self._kept.append(copy_of(batch))
        if self._kept_bytes > self._limit:
            self._give_up()

    def _give_up(self) -> None:
        warnings.warn(
            f"Trials will not see the same batches: they take more than replay_mb={self._limit / 2**20:.0f} MB. "
            "The search goes on, a little less precisely.",
            AutoLRSWarning,
            stacklevel=4,
        )
        self._limit = 0
        self._keeping = False
        self._clear()

    def _clear(self) -> None:
        self._position = self._kept_from = self._furthest
        self._kept = []
        self._kept_bytes = 0


class _Rewindable(Stream):
    """A loader that can be opened at a mark; keeps no batches."""

    def __init__(self, start: Mark) -> None:
        self._position = start.position
        self._left: Mark | None = None  # the furthest place, while the stream is behind it
        self._open(start)

    @abstractmethod
    def _open(self, mark: Mark) -> None: ...

    @abstractmethod
    def _next(self) -> Batch: ...

    def draw(self) -> Batch:
        batch = self._next()
        self._position += 1
        if self._left is not None and self._position >= self._left.position:
            self._left = None
        return batch

    def rewind(self, mark: Mark) -> None:
        if mark.position == self._position:
            return
        if self._left is None:
            self._left = self.mark()
        self._move(mark)

    def forward(self) -> None:
        if self._left is not None:
            self._move(self._left)
            self._left = None

    def keep(self, on: bool) -> None:
        """Nothing to keep: the loader gives them again."""

    def restart(self) -> None:
        self._open(self.mark())

    def _move(self, mark: Mark) -> None:
        self._position = mark.position
        self._open(mark)


class FunctionStream(_Rewindable):
    """`loader(position)`: an iterator from that batch on; called again when it ends."""

    def __init__(self, loader: Any, start: Mark) -> None:
        self._loader = loader
        super().__init__(start)

    def mark(self) -> Mark:
        return Mark(self._position)

    def _open(self, mark: Mark) -> None:
        self._iterator = iter(self._loader(mark.position))

    def _next(self) -> Batch:
        for _ in range(2):
            try:
                return next(self._iterator)
            except StopIteration:
                self._iterator = iter(self._loader(self._position))
        raise Error(f"loader({self._position}) gives no batch: it must give an iterator from that batch on.")


class StatefulStream(_Rewindable):
    """A loader with `state_dict` and `load_state_dict`."""

    def __init__(self, loader: Any, start: Mark) -> None:
        self._loader = loader
        super().__init__(start)

    def mark(self) -> Mark:
        return Mark(self._position, self._passes.number, self._loader.state_dict())

    def _open(self, mark: Mark) -> None:
        if mark.state is not None:
            self._loader.load_state_dict(mark.state)
        self._passes = Passes(self._loader, mark.number_of_pass)

    def _next(self) -> Batch:
        return self._passes.draw()


class Accumulated(Stream):
    """Lists of `count` batches of another stream: one list is one optimizer step."""

    def __init__(self, stream: Stream, count: int) -> None:
        self._stream = stream
        self._count = count

    def draw(self) -> list[Batch]:
        return [self._stream.draw() for _ in range(self._count)]

    def mark(self) -> Mark:
        return self._stream.mark()

    def rewind(self, mark: Mark) -> None:
        self._stream.rewind(mark)

    def forward(self) -> None:
        self._stream.forward()

    @property
    def able(self) -> bool:
        return self._stream.able

    def keep(self, on: bool) -> None:
        self._stream.keep(on)

    def restart(self) -> None:
        self._stream.restart()
