"""What was run, step by step: the record behind `schedule.history` and the picture.

Losses and LRs are appended once a step; everything that is constant over a directive is kept once per segment.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, overload

COMMITTED = "committed"
SEARCH = "search"
LOST = "lost"

SEARCH_PHASE = "trial"


class Step(NamedTuple):
    """One optimizer step.

    total_step: 0-based number of the step, search and lost steps included.
    seq: directive that it belongs to.
    phase: "warmup", "trial", "stable" or "cooldown".
    lr: LR of the largest group.
    loss: may be NaN or infinite; NaN as well where a device loss has not arrived yet.
    kind: "committed" (kept; also a trial's, once training goes on from its end), "search" (a trial's) or "lost"
        (rolled back by a guard).
    """

    total_step: int
    seq: int
    phase: str
    lr: float
    loss: float
    kind: str


@dataclass(frozen=True)
class Segment:
    """A run of consecutive steps that share everything but LR and loss. `start` is an index into the columns; `line`
    holds the LRs of these steps, and of those that were to follow, as curves (`_core.Session.line`)."""

    start: int
    first_step: int
    seq: int
    phase: str
    kind: str
    line: str


class History:
    """The steps of this job that this process knows, oldest first: a read-only sequence of `Step`."""

    def __init__(self) -> None:
        self._lr = array("d")
        self._loss = array("d")
        self._segments: list[Segment] = []
        # Bound methods: they are called once a step.
        self.add_lr = self._lr.append
        self.add_loss = self._loss.append

    def begin(self, seq: int, phase: str, total_step: int, line: str) -> None:
        """The next steps belong to directive `seq` and its `phase`, at the LRs of `line`; the next one has the number
        `total_step`."""
        kind = SEARCH if phase == SEARCH_PHASE else COMMITTED
        segment = Segment(len(self._lr), total_step, seq, phase, kind, line)
        if self._segments and self._segments[-1].start == segment.start:
            self._segments.pop()
        self._segments.append(segment)

    def mark(self) -> int:
        """Position to hand to `lose` if the steps from here on are rolled back."""
        return len(self._lr)

    def keep(self, mark: int) -> None:
        """Training goes on from the state at `mark`; if a trial ended there, its steps are committed."""
        ended = [s for s, end in self._spans() if s.kind == SEARCH and s.start < end == mark]
        if ended:
            seq = ended[-1].seq
            trial = [s.kind == SEARCH and s.seq == seq and s.start < mark for s in self._segments]
            self._segments = [replace(s, kind=COMMITTED) if of else s for s, of in zip(self._segments, trial)]

    def lose(self, mark: int) -> None:
        """Everything committed since `mark` was rolled back."""
        kept: list[Segment] = []
        for segment, end in self._spans():
            if segment.kind != COMMITTED or end <= mark:
                kept.append(segment)
                continue
            cut = max(segment.start, mark)
            if cut > segment.start:
                kept.append(segment)
            kept.append(replace(segment, start=cut, first_step=segment.first_step + cut - segment.start, kind=LOST))
        self._segments = kept

    def kept(self) -> list[tuple[str, int]]:
        """The LRs of the steps that were kept, as curves and how many steps of each: for `_core.Line.joined`."""
        return [(segment.line, end - segment.start) for segment, end in self._spans() if segment.kind == COMMITTED]

    def _spans(self) -> Iterator[tuple[Segment, int]]:
        ends = [segment.start for segment in self._segments[1:]] + [len(self._lr)]
        return zip(self._segments, ends)

    def columns(self) -> dict[str, list[int] | list[float] | list[str]]:
        """The same as one list per field of `Step`; ready for `pandas.DataFrame`."""
        steps = list(self)
        names = Step._fields
        return {name: [getattr(step, name) for step in steps] for name in names}

    def __len__(self) -> int:
        return len(self._lr)

    @property
    def losses_known(self) -> int:
        """Number of the oldest steps whose losses have arrived: all, or on a device all but the last few."""
        return min(len(self._loss), len(self._lr))

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"step {index} of {len(self)}")
        found = bisect_right([segment.start for segment in self._segments], position) - 1
        return self._step(self._segments[found], position)

    def __iter__(self) -> Iterator[Step]:
        for segment, end in self._spans():
            for position in range(segment.start, end):
                yield self._step(segment, position)

    def __repr__(self) -> str:
        return f"<History of {len(self)} steps>"

    def _step(self, segment: Segment, position: int) -> Step:
        number = segment.first_step + position - segment.start
        loss = self._loss[position] if position < len(self._loss) else float("nan")
        return Step(number, segment.seq, segment.phase, self._lr[position], loss, segment.kind)

    def state(self, upto: int | None = None) -> dict[str, Any]:
        """The steps before the mark `upto` (default: all) as plain values and bytes; `load` takes them back."""
        end = len(self._lr) if upto is None else upto
        segments = [[s.start, s.first_step, s.seq, s.phase, s.kind, s.line] for s in self._segments if s.start < end]
        return {"lr": self._lr[:end].tobytes(), "loss": self._loss[:end].tobytes(), "segments": segments}

    def load(self, lr: bytes, loss: bytes, segments: list[list[Any]]) -> None:
        """Replaces what is held by what `state` gave: the columns `lr` and `loss` as bytes, and the `segments`."""
        del self._lr[:]
        del self._loss[:]
        self._lr.frombytes(lr)
        self._loss.frombytes(loss)
        self._segments = [Segment(*fields) for fields in segments]
