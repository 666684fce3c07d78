"""What ranks tell each other, as values."""

from __future__ import annotations

import copy

import pytest
import torch

from autolrs import _exceptions
from autolrs._exceptions import Error, InvalidSchedule, InvalidSpec, JobExists, SessionActive
from autolrs._losses import DeviceLosses, HostLosses
from autolrs._replay import Replay
from autolrs._streams import Mark, open_stream
from autolrs._turn import Raised

ERRORS = [
    InvalidSpec("two rules are broken", [("lr_min", "more than 0")]),
    InvalidSchedule("pieces[3].steps", "a number of steps", "file.json"),
    JobExists("another job", ["seed"]),
    SessionActive("another trainer", "host", 7, same_host=True),
    KeyboardInterrupt(),
    KeyError("x"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_on_every_rank(error: BaseException) -> None:
    told = Raised(error).error()
    assert type(told) is type(error) and told.args == error.args and str(told) == str(error)
    assert told.__dict__ == error.__dict__


def test_every_error_can_be_copied() -> None:
    for name in _exceptions.__all__:
        kind = getattr(_exceptions, name)
        if issubclass(kind, Error):
            error = kind("a", "b") if kind is InvalidSchedule else kind("a")
            assert str(copy.copy(error)) == str(error)


def test_an_error_that_is_no_value_is_told_in_words() -> None:
    class Local(Exception):
        pass

    told = Raised(Local("here")).error()
    assert type(told) is Error and "Local: here" in str(told)


@pytest.mark.parametrize("kind", [DeviceLosses, HostLosses])
def test_looking_at_the_losses_leaves_them_as_they_are(kind: type[DeviceLosses] | type[HostLosses]) -> None:
    seen, other = kind(), kind()
    for step in range(1, 40):
        loss = torch.tensor(float(step))
        seen.add(loss)
        other.add(loss)
        if step % 5 == 0:
            assert seen.peek() == seen.peek() and seen.peek()[-1] == step
        if step % 8 == 0:
            assert seen.ripe() == other.ripe()
    assert seen.drain() == other.drain()


def test_a_stream_that_gave_up_gives_no_batch_again() -> None:
    replay = Replay(open_stream([1, 2, 3, 4], 1, "auto", 256, Mark()), on=True)
    replay.follow([("save", "START")], True, False)
    assert replay.able
    drawn = [replay.stream.draw() for _ in range(2)]
    replay.give_up()
    assert not replay.able
    replay.follow([("restore", "START")], True, True)
    assert drawn + [replay.stream.draw() for _ in range(2)] == [1, 2, 3, 4]
