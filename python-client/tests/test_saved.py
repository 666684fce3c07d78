"""Schedules in files, without PyTorch and without a server."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import autolrs

PIECES = [
    {"steps": 7, "shape": "linear", "start": 1.1e-05, "end": 0.022, "index": 2, "of": 12},
    {"steps": 5, "shape": "constant", "start": 0.022, "end": 0.022},
    {"steps": 9, "shape": "cosine", "start": 0.022, "end": 0.001},
    {"steps": 6, "shape": "power", "start": 0.1, "end": 0, "exponent": -0.5, "origin": 4.0},
]


def file(tmp_path: Path, pieces: object = PIECES, **more: object) -> Path:
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps({"format": "autolrs.schedule.v1", "pieces": pieces, **more}))
    return path


def formula(piece: dict[str, float]) -> list[float]:
    """The proto's words in Python."""
    index, start, end = piece.get("index", 0), piece["start"], piece["end"]
    of = piece.get("of", index + piece["steps"])
    lrs = []
    for j in range(int(index), int(index + piece["steps"])):
        u = j / (of - 1)
        lrs.append(
            {
                "constant": start,
                "linear": start + (end - start) * u,
                "cosine": start + (end - start) * ((1 - math.cos(math.pi * u)) / 2),
                "power": start * ((piece.get("origin", 1) + j) / piece.get("origin", 1)) ** piece.get("exponent", 0),
            }[str(piece["shape"])]
        )
    return lrs


def test_lrs_follow_the_formula(tmp_path: Path) -> None:
    schedule = autolrs.load_schedule(file(tmp_path, job="toy", policy="scan", state="finished", steps=27))
    expected = [lr for piece in PIECES for lr in formula(piece)]
    assert len(schedule) == 27 and list(schedule) == pytest.approx(expected, rel=1e-13, abs=0)
    assert schedule[:12] == expected[:12], "lines and constants to the bit"
    assert (schedule.job, schedule.policy, schedule.state) == ("toy", "scan", "finished")
    assert schedule[-1] == schedule.lr(26) == schedule.lr(10**15), "the last LR holds"
    assert numpy.array_equal(numpy.array(schedule), list(schedule))
    assert schedule.lr(numpy.int64(3)) == schedule[3]
    with pytest.raises(IndexError, match="step 27 of 27"):
        schedule[27]
    with pytest.raises(OverflowError):
        schedule.lr(-1)


def test_both_forms_come_back_to_the_bit(tmp_path: Path) -> None:
    schedule = autolrs.load_schedule(file(tmp_path, job="toy"))
    for name in ("again.json", "again.csv"):
        assert list(autolrs.load_schedule(schedule.save(tmp_path / "deep" / name))) == list(schedule)
    again = pickle.loads(pickle.dumps(schedule))
    assert list(again) == list(schedule) and repr(again) == "<SavedSchedule of 27 steps of job toy>"


@pytest.mark.parametrize(
    ("piece", "said"),
    [
        ({**PIECES[1], "steps": -1}, "pieces[1].steps: invalid value: integer `-1`, expected u64"),
        ({**PIECES[1], "lr": 1}, "pieces[1].lr: unknown field `lr`"),
        ({"steps": 1, "shape": "linear", "start": 0.1}, "pieces[1]: missing field `end`"),
        ({**PIECES[1], "start": -0.5}, "pieces[1].start: must be finite and at least 0, is -0.5"),
        ({**PIECES[0], "of": 3}, "pieces[1].of: must be at least index + steps = 2 + 7, is 3"),
        ({**PIECES[3], "origin": None}, "pieces[1].origin: must be set with power"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, piece: dict[str, object], said: str) -> None:
    path = file(tmp_path, [PIECES[0], piece])
    with pytest.raises(autolrs.InvalidSchedule) as wrong:
        autolrs.load_schedule(path)
    assert str(wrong.value).startswith(f"{path}: {said}")
    assert wrong.value.field == said.partition(":")[0]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"{", "file"),
        (b"\xff\xfe", "file"),
        (b'{"format": 1}', "format"),
        (b"", "line 1"),
        (b"step,lr\n1,0.1", "line 2"),
    ],
)
def test_what_is_no_schedule_is_a_clear_error(tmp_path: Path, content: bytes, field: str) -> None:
    path = tmp_path / "schedule"
    path.write_bytes(content)
    with pytest.raises(autolrs.InvalidSchedule) as wrong:
        autolrs.load_schedule(path)
    assert wrong.value.field == field


def test_the_import_stays_light(tmp_path: Path) -> None:
    code = """
import sys, autolrs
light = "autolrs._core" not in sys.modules
schedule = autolrs.load_schedule(sys.argv[1])
assert light and len(schedule) == 27 and "torch" not in sys.modules
assert set(autolrs.__all__) <= {*dir(autolrs), *autolrs._NATIVE}
assert all(hasattr(autolrs, name) for name in autolrs.__all__)
"""
    subprocess.run([sys.executable, "-c", code, str(file(tmp_path))], check=True)
