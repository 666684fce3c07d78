"""The stream of batches: passes, replay, and going on where it was furthest."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from autolrs._batches import copy_of, size_of
from autolrs._exceptions import AutoLRSWarning, Error
from autolrs._replay import Replay
from autolrs._streams import Mark, Stream, open_stream


class Stateful:
    """A loader of five batches that says where it is, as torchdata's does."""

    def __init__(self) -> None:
        self.at = 0
        self.passes: list[int] = []

    def set_epoch(self, number: int) -> None:
        self.passes.append(number)

    def __iter__(self) -> Iterator[int]:
        while self.at < 5:
            self.at += 1
            yield self.at - 1
        self.at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


def function(position: int) -> Iterator[int]:
    return iter([(position + i) % 5 for i in range(3)])


LOADERS = {"list": lambda: list(range(5)), "state": Stateful, "function": lambda: function}


def draw(stream: Stream, count: int) -> list[Any]:
    return [stream.draw() for _ in range(count)]


@pytest.mark.parametrize("kind", LOADERS)
def test_search_replays_and_training_goes_on_with_new_batches(kind: str) -> None:
    stream = open_stream(LOADERS[kind](), 1, "auto", 256, Mark())
    replay = Replay(stream, on=True)
    expected = [i % 5 for i in range(40)]
    assert draw(stream, 3) == expected[:3]
    replay.follow([("save", "START")], searching=True, replay=True)
    assert draw(stream, 6) == expected[3:9]
    replay.follow([("restore", "START")], searching=True, replay=True)  # stopped early
    assert draw(stream, 2) == expected[3:5]
    replay.follow([("restore", "START")], searching=True, replay=True)  # goes further than the first
    assert draw(stream, 9) == expected[3:12]
    replay.follow([("restore", "START")], searching=True, replay=True)
    assert draw(stream, 4) == expected[3:7]
    assert replay.mark("START").position == 3
    replay.follow([("restore", "START"), ("drop", "START")], searching=False, replay=False)
    assert draw(stream, 8) == expected[12:20]
    assert stream.mark().position == 20


@pytest.mark.parametrize("kind", LOADERS)
def test_a_second_search_replays_its_own_batches(kind: str) -> None:
    stream = open_stream(LOADERS[kind](), 1, "auto", 256, Mark())
    replay = Replay(stream, on=True)
    for _ in range(2):
        replay.follow([("save", "STAGE")], searching=True, replay=True)
        first = draw(stream, 4)
        replay.follow([("save", "BEST"), ("restore", "STAGE")], searching=True, replay=True)
        assert draw(stream, 4) == first
        replay.follow([("restore", "STAGE")], searching=False, replay=False)
        draw(stream, 4)


def test_a_directive_without_restore_goes_on() -> None:
    stream = open_stream(list(range(5)), 1, "auto", 256, Mark())
    replay = Replay(stream, on=True)
    replay.follow([("save", "START")], searching=True, replay=True)
    assert draw(stream, 2) == [0, 1]
    replay.follow([], searching=True, replay=True)
    assert draw(stream, 2) == [2, 3]


@pytest.mark.parametrize("kind", LOADERS)
def test_replay_off_gives_new_batches(kind: str) -> None:
    stream = open_stream(LOADERS[kind](), 1, "off", 256, Mark())
    replay = Replay(stream, on=False)
    replay.follow([("save", "START")], searching=True, replay=True)
    draw(stream, 3)
    replay.follow([("restore", "START")], searching=True, replay=True)
    assert draw(stream, 2) == [3, 4]


def test_beyond_the_memory_limit_trials_see_new_batches_and_it_is_said_once() -> None:
    batches = [torch.full((1 << 18,), float(i)) for i in range(5)]  # 1 MB each
    stream = open_stream(batches, 1, "auto", 2.5, Mark())
    replay = Replay(stream, on=True)
    replay.follow([("save", "START")], searching=True, replay=True)
    draw(stream, 2)
    with pytest.warns(AutoLRSWarning, match="replay_mb"):
        draw(stream, 1)
    replay.follow([("restore", "START")], searching=True, replay=True)
    assert [batch[0].item() for batch in draw(stream, 3)] == [3, 4, 0]


def test_a_step_may_change_its_batch_in_place() -> None:
    loader = [{"x": [torch.ones(3)]}]
    stream = open_stream(loader, 1, "auto", 1, Mark())
    replay = Replay(stream, on=True)
    replay.follow([("save", "START")], searching=True, replay=True)
    for _ in range(3):
        batch = stream.draw()
        assert batch["x"][0].sum() == 3
        batch["x"][0].zero_()
        replay.follow([("restore", "START")], searching=True, replay=True)


def test_accumulation_gives_lists_across_passes() -> None:
    stream = open_stream(list(range(5)), 4, "auto", 256, Mark())
    replay = Replay(stream, on=True)
    replay.follow([("save", "START")], searching=True, replay=True)
    assert draw(stream, 2) == [[0, 1, 2, 3], [4, 0, 1, 2]]
    replay.follow([("restore", "START")], searching=True, replay=True)
    assert draw(stream, 2) == [[0, 1, 2, 3], [4, 0, 1, 2]]


def test_goes_on_at_a_mark_of_an_earlier_process() -> None:
    assert draw(open_stream(function, 1, "auto", 256, Mark(7)), 3) == [2, 3, 4]
    first = open_stream(Stateful(), 1, "auto", 256, Mark())
    draw(first, 8)
    loader = Stateful()
    second = open_stream(loader, 1, "auto", 256, first.mark())
    assert draw(second, 4) == [3, 4, 0, 1]
    assert loader.passes == [1, 2], "the sampler hears the number of the pass"


def test_samplers_hear_the_number_of_the_pass() -> None:
    loader = Stateful()
    draw(open_stream(loader, 1, "auto", 256, Mark()), 11)
    assert loader.passes == [0, 1, 2]


def test_an_exhausted_generator_is_a_clear_error() -> None:
    stream = open_stream(iter(range(3)), 1, "auto", 256, Mark())
    with pytest.raises(Error, match="exhausted after 3 batches"):
        draw(stream, 4)


def test_a_function_that_gives_nothing_is_a_clear_error() -> None:
    stream = open_stream(lambda position: iter(range(max(0, 2 - position))), 1, "auto", 256, Mark())
    with pytest.raises(Error, match=r"loader\(2\) gives no batch"):
        draw(stream, 3)


@pytest.mark.parametrize("bad", [{"replay": "on"}, {"accumulate": 0}])
def test_bad_arguments(bad: dict[str, Any]) -> None:
    arguments = {"accumulate": 1, "replay": "auto", **bad}
    with pytest.raises(ValueError):
        open_stream([1], replay_mb=1, start=Mark(), **arguments)


def test_copies_containers_and_counts_their_bytes() -> None:
    Pair = namedtuple("Pair", "x y")
    batch = {"pair": Pair(torch.ones(4), torch.ones(2).numpy()), "names": ["ab"], "more": (torch.ones(1),)}
    copied = copy_of(batch)
    assert type(copied["pair"]) is Pair
    assert copied["pair"].x is not batch["pair"].x and torch.equal(copied["pair"].x, batch["pair"].x)
    assert copied["pair"].y is not batch["pair"].y
    assert size_of(batch) == 16 + 8 + 2 + 4

    class Graph:
        def __init__(self) -> None:
            self.nodes = torch.ones(8)
            self.me = self

    assert size_of(Graph()) == 32
