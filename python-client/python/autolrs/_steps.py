"""The loop over a job's steps, as `schedule.steps(loader)` gives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autolrs._streams import Stream

if TYPE_CHECKING:
    from autolrs._session import BaseSchedule


class Steps(Iterator[Any]):
    """Batches until the job is done. `len` is how many there are to come when the loop begins, if the budget is known.

    So a progress bar knows its length: `for batch in tqdm(schedule.steps(loader))`. An operator may change the budget
    later, and `schedule.finish()` ends the loop sooner.
    """

    def __init__(self, schedule: BaseSchedule, stream: Stream, length: int | None) -> None:
        self._schedule = schedule
        self._stream = stream
        self._length = length
        self._begun = False

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        schedule = self._schedule
        if not self._begun:
            schedule._begin_steps()
            self._begun = True
        if schedule._waiting:
            schedule._advance()
        if schedule.done:
            raise StopIteration
        return self._stream.draw()

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("how many steps there will be is not known: the schedule has total_steps=None")
        return self._length
