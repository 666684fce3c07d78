"""The record of a run, and its picture."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from autolrs._exceptions import Error
from autolrs._history import History
from autolrs._plot import chosen_lr, draw


def run(history: History, seq: int, phase: str, lr: float, losses: list[float]) -> None:
    history.begin(seq, phase, len(history), f"line {seq}")
    for loss in losses:
        history.add_lr(lr)
        history.add_loss(loss)


def example() -> History:
    history = History()
    run(history, 1, "trial", 1.0, [2.0, 9.0, math.nan])
    run(history, 2, "trial", 0.1, [2.0, 1.5])
    run(history, 3, "warmup", 0.05, [2.0, 1.9])
    run(history, 4, "stable", 0.1, [1.5, 1.4])
    mark = history.mark()
    run(history, 5, "stable", 0.1, [1.3, math.inf])
    history.lose(mark)
    run(history, 6, "cooldown", 0.05, [1.2, 1.1])
    return history


def test_steps_carry_number_phase_and_kind() -> None:
    history = example()
    assert len(history) == 13
    assert [step.total_step for step in history] == list(range(13))
    kinds = [step.kind for step in history]
    assert kinds == ["search"] * 5 + ["committed"] * 4 + ["lost"] * 2 + ["committed"] * 2
    assert history[-1] == (12, 6, "cooldown", 0.05, 1.1, "committed")
    assert history[5:7] == list(history)[5:7]
    with pytest.raises(IndexError):
        history[13]


def test_a_rollback_into_the_middle_of_a_directive_splits_it() -> None:
    history = History()
    run(history, 1, "stable", 0.1, [1.0] * 4)
    history.lose(2)
    assert [step.kind for step in history] == ["committed"] * 2 + ["lost"] * 2
    assert [step.total_step for step in history] == [0, 1, 2, 3]


def test_what_was_kept_is_known_in_curves() -> None:
    history = example()
    assert history.kept() == [("line 3", 2), ("line 4", 2), ("line 6", 2)]
    history.lose(history.mark() - 1)
    assert history.kept()[-1] == ("line 6", 1)
    other = History()
    other.load(**history.state())
    assert other.kept() == history.kept()


def test_a_trial_that_training_goes_on_from_is_committed() -> None:
    history = History()
    run(history, 1, "stable", 0.1, [1.0])
    run(history, 2, "trial", 0.1, [1.0, 0.9])
    run(history, 2, "trial", 0.1, [0.8])  # after a rung
    best = history.mark()
    run(history, 3, "trial", 0.2, [1.0, 1.1])
    history.keep(1)
    assert [step.kind for step in history] == ["committed"] + ["search"] * 5
    history.keep(best)
    assert [step.kind for step in history] == ["committed"] * 4 + ["search"] * 2
    run(history, 4, "stable", 0.1, [0.7])
    history.lose(1)
    assert [step.kind for step in history] == ["committed"] + ["lost"] * 3 + ["search"] * 2 + ["lost"]


def test_a_loss_that_has_not_arrived_is_nan() -> None:
    history = History()
    history.begin(1, "stable", 0, "")
    history.add_lr(0.1)
    assert math.isnan(history[0].loss)


def test_state_up_to_a_mark_comes_back() -> None:
    history = example()
    other = History()
    other.load(**history.state(7))
    assert list(other)[5:] == list(history)[5:7]
    run(other, 4, "stable", 0.1, [1.0])
    assert other[-1].total_step == 7


def test_columns_are_ready_for_a_data_frame() -> None:
    columns = example().columns()
    assert list(columns) == ["total_step", "seq", "phase", "lr", "loss", "kind"]
    assert columns["seq"][:4] == [1, 1, 1, 2]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_draws_the_picture(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = draw(example(), tmp_path / "deep" / f"run.{suffix}", "job")
    assert path.stat().st_size > 5000
    chosen = chosen_lr(list(example()))
    assert chosen is not None and (chosen.total_step, chosen.lr) == (7, 0.1)


def test_nothing_to_draw_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(Error, match="no step"):
        draw(History(), tmp_path / "run.png", "job")
