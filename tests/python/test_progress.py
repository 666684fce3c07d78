"""How far a job is: the loop's length for progress bars, a line, and the table that a notebook shows."""

from __future__ import annotations

import io

import pytest
from conftest import Server
from trainer import TOTAL_STEPS, batches, make, train_step

import autolrs.torch as autolrs


def test_the_loop_has_a_length(server: Server) -> None:
    model, optimizer = make()
    with autolrs.Schedule(optimizer, model, TOTAL_STEPS, job="bar", server=server.address) as schedule:
        steps = schedule.steps(batches)
        assert len(steps) == TOTAL_STEPS
        for _, batch in zip(range(300), steps):
            schedule.step(train_step(model, optimizer, batch))
        steps = schedule.steps(batches)
        assert len(steps) == TOTAL_STEPS - 300
        assert sum(schedule.step(train_step(model, optimizer, batch)) is None for batch in steps) == TOTAL_STEPS - 300
        assert schedule.done


def test_the_replay_of_a_schedule_has_one_too(server: Server, tmp_path: object) -> None:
    model, optimizer = make()
    with autolrs.Schedule(optimizer, model, 50, job="first", policy="cosine", server=server.address) as schedule:
        for batch in schedule.steps(batches):
            schedule.step(train_step(model, optimizer, batch))
        exported = autolrs.load_schedule(schedule.export(f"{tmp_path}/schedule.json"))
    model, optimizer = make()  # that one's LR has come down to 0
    options = {"schedule": exported}
    replayed = autolrs.Schedule(
        optimizer, model, None, job="second", policy="replay", options=options, server=server.address
    )
    assert len(replayed.steps(batches)) == 50
    replayed.close()


def test_without_a_known_end_it_has_none(server: Server) -> None:
    model, optimizer = make()
    with autolrs.Schedule(optimizer, model, None, job="open", server=server.address) as schedule:
        with pytest.raises(TypeError, match="total_steps=None"):
            len(schedule.steps(batches))
        assert "step 0, search" in repr(schedule)


def test_tqdm_shows_it(server: Server) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    model, optimizer = make()
    shown = io.StringIO()
    with autolrs.Schedule(optimizer, model, 40, job="tqdm", policy="cosine", server=server.address) as schedule:
        for batch in tqdm(schedule.steps(batches), file=shown):
            schedule.step(train_step(model, optimizer, batch))
    assert "100%" in shown.getvalue() and "40/40" in shown.getvalue()


def test_a_line_and_a_table(server: Server) -> None:
    model, optimizer = make()
    schedule = autolrs.Schedule(optimizer, model, 40, job="table", policy="cosine", server=server.address)
    for _, batch in zip(range(10), schedule.steps(batches)):
        schedule.step(train_step(model, optimizer, batch))
    assert repr(schedule) == f"<Schedule of table: step 10 of 40, stable, LR {schedule.lr:.4g}>"
    table = schedule._repr_html_()
    assert '10 of 40 <progress max="40" value="10"></progress>' in table
    assert f"{schedule.history[-1].loss:.4g}" in table and "10 kept, 0 search, 0 lost" in table
    for batch in schedule.steps(batches):
        schedule.step(train_step(model, optimizer, batch))
    schedule.close()
    assert "done, LR 0 (finished)" in repr(schedule) and "done (finished)" in schedule._repr_html_()
