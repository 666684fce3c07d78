"""Several processes under torchrun train under one schedule."""

from __future__ import annotations

from pathlib import Path

import pytest
import ranks_stories
from conftest import Server


def test_losses_of_the_same_mean_give_the_same_schedule(server: Server, tmp_path: Path) -> None:
    ranks_stories.alike(server, tmp_path, 2)


def test_each_has_its_part_of_the_data(server: Server, tmp_path: Path) -> None:
    ranks_stories.shards(server, tmp_path, 2)


@pytest.mark.parametrize(
    ("fault", "rank", "step"), [("kill", 1, 35), ("kill", 0, 333), ("raise", 1, 701)], ids=["1", "0", "raise"]
)
def test_a_rank_that_breaks_is_started_again(server: Server, tmp_path: Path, fault: str, rank: int, step: int) -> None:
    ranks_stories.broken(server, tmp_path, 2, fault, rank, step)


def test_every_rank_sees_the_same(server: Server, tmp_path: Path) -> None:
    ranks_stories.checks(server, tmp_path, 2)
