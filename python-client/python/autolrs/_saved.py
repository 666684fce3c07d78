"""Schedules as files: what was run is written, read, and replayed without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, overload

from autolrs import _core
from autolrs._exceptions import InvalidSchedule

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from autolrs._replay_lr import ReplayLR

Source = Union["SavedSchedule", str, "os.PathLike[str]"]


class SavedSchedule(Sequence[float]):
    """The LR of every step of a training that has run; `load_schedule` reads one from a file.

    A read-only sequence of LRs: `len(schedule)`, `schedule[i]`, `for lr in schedule`, `numpy.array(schedule)`. It needs
    neither PyTorch nor a server. The LRs are computed as in the server, so they are the same to the bit.
    Made by `load_schedule`; `line` is the native form.
    """

    def __init__(self, line: _core.Line) -> None:
        self._line = line

    def lr(self, step: int) -> float:
        """The LR of a step, from 0; past the end that of the last step."""
        return self._line.lr(step)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes it to `path` as JSON, or as a table `step,lr` if the name ends in .csv; gives the path back."""
        return write(self._line, Path(path))

    @property
    def job(self) -> str:
        """Name of the job that it is of; "" if the file does not say."""
        return self._line.job

    @property
    def policy(self) -> str:
        """Name of that job's policy; "" if the file does not say."""
        return self._line.policy

    @property
    def state(self) -> str:
        """Where that job stood, for instance "finished"; "" if the file does not say."""
        return self._line.state

    def __len__(self) -> int:
        return self._line.steps

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return [self._line.lr(step) for step in range(*index.indices(len(self)))]
        step = index + len(self) if index < 0 else index
        if not 0 <= step < len(self):
            raise IndexError(f"step {index} of {len(self)}")
        return self._line.lr(step)

    def __iter__(self) -> Iterator[float]:
        return map(self._line.lr, range(len(self)))

    def __repr__(self) -> str:
        of = f" of job {self.job}" if self.job else ""
        return f"<SavedSchedule of {len(self)} steps{of}>"

    def __reduce__(self) -> Any:
        return _parse, (self._line.to_json(),)


def load_schedule(path: str | os.PathLike[str]) -> SavedSchedule:
    """Reads the schedule in `path`: what `schedule.export` or `autolrs jobs export` wrote, or a table `step,lr`.

    Raises `InvalidSchedule` with the field that is wrong, and `OSError` if the file can't be read.
    """
    return SavedSchedule(line_of(path))


def replay(schedule: Source, optimizer: Optimizer) -> ReplayLR:
    """Trains a PyTorch optimizer with the LRs of a saved schedule, without a server.

    >>> scheduler = autolrs.replay("schedule.json", optimizer)
    >>> for batch in loader:
    ...     train_step(batch)  # forward, backward, optimizer.step()
    ...     scheduler.step()

    The scheduler has `step`, `get_last_lr`, `state_dict` and `load_state_dict`, as PyTorch's own. The groups keep their
    ratio to the largest initial LR, and a group at 0 stays at 0. After the schedule's end its last LR holds.
    """
    from autolrs._replay_lr import ReplayLR

    return ReplayLR(schedule if isinstance(schedule, SavedSchedule) else load_schedule(schedule), optimizer)


def line_of(schedule: Source) -> _core.Line:
    """The native schedule of a loaded one, or of a file."""
    if isinstance(schedule, SavedSchedule):
        return schedule._line
    try:
        return _core.Line.parse(Path(schedule).read_text(encoding="utf-8"))
    except InvalidSchedule as wrong:
        raise InvalidSchedule(wrong.field, wrong.description, os.fspath(schedule)) from None
    except UnicodeDecodeError as wrong:
        raise InvalidSchedule("file", f"is no text ({wrong})", os.fspath(schedule)) from None


def write(line: _core.Line, path: Path) -> Path:
    """Writes JSON, or a table if the name ends in .csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line.to_csv() if path.suffix == ".csv" else line.to_json(), encoding="utf-8")
    return path


def _parse(text: str) -> SavedSchedule:
    return SavedSchedule(_core.Line.parse(text))
