"""The stories of tests/python/test_ranks.py on the newest PyTorch, and with four processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import ranks_stories
from serving import Server

RANKS = pytest.mark.parametrize("ranks", [2, 4])


@RANKS
def test_losses_of_the_same_mean_give_the_same_schedule(server: Server, tmp_path: Path, ranks: int) -> None:
    ranks_stories.alike(server, tmp_path, ranks)


@RANKS
def test_each_has_its_part_of_the_data(server: Server, tmp_path: Path, ranks: int) -> None:
    ranks_stories.shards(server, tmp_path, ranks)


@RANKS
@pytest.mark.parametrize(("fault", "rank", "step"), [("kill", 1, 35), ("kill", 0, 333), ("raise", 1, 701)])
def test_a_rank_that_breaks_is_started_again(
    server: Server, tmp_path: Path, ranks: int, fault: str, rank: int, step: int
) -> None:
    ranks_stories.broken(server, tmp_path, ranks, fault, rank, step)


@RANKS
def test_every_rank_sees_the_same(server: Server, tmp_path: Path, ranks: int) -> None:
    ranks_stories.checks(server, tmp_path, ranks)
