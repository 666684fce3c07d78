"""Lightning's ddp and Hugging Face's Trainer on two processes: one schedule, on every rank at every step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
from ranks_stories import torchrun

SAVED = {"lightning": "by-hand.ckpt", "transformers": "checkpoint-300"}


def train(server: Server, framework: str, directory: Path, *options: str) -> list[Any]:
    script = str(Path(__file__).with_name("adapters_trainer.py"))
    assert torchrun(script, framework, server.address, directory, *options, ranks=2).returncode == 0
    return [json.loads((directory / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_two_ranks_follow_one_schedule_and_go_on_from_a_checkpoint(
    server: Server, tmp_path: Path, framework: str
) -> None:
    first, second = train(server, framework, tmp_path)
    assert len(first["lrs"]) == 800 and len(set(first["lrs"])) > 50
    assert {**first, "buffers": ""} == {**second, "buffers": ""}, "but for what each batch normalisation has seen"
    assert first["lrs"] == [lr for _, lr in first["schedule"]]

    resumed, other = train(server, framework, tmp_path, "--resume", str(tmp_path / SAVED[framework]))
    assert [resumed["buffers"], other["buffers"]] == [first["buffers"], second["buffers"]]
    assert {**resumed, "buffers": ""} == {**other, "buffers": ""}
    assert resumed["schedule"] == first["schedule"]
    assert resumed["lrs"] == first["lrs"][300:], "from the first step on"
    assert resumed["weights"] == first["weights"]
