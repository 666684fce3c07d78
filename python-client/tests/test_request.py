"""Names, addresses, descriptions, LR groups and losses on their way."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from autolrs._exceptions import AutoLRSWarning, InvalidSpec
from autolrs._families import lr_range_of
from autolrs._groups import GroupLRs
from autolrs._losses import DeviceLosses, host_value
from autolrs._spec import JOB_NAME, default_job_name, describe, job_name, server_address


@pytest.mark.parametrize("name", ["a", "resnet50", "a.b_c-d", "0" * 63])
def test_good_names(name: str) -> None:
    assert job_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", ".a", "a b", "a\n", "0" * 64, "ä"])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="is not a job name"):
        job_name(name)


@pytest.mark.parametrize("script", ["train.py", "/x/My Train!.py", "", "-c", "__main__", "é.py", "x" * 200])
def test_default_names_are_good_names(script: str) -> None:
    assert JOB_NAME.match(default_job_name(script, 1_700_000_000.25))
    assert default_job_name("/a/train.py", 0.25) == "train-19700101-000000-250"


PRINTS_A_NAME = "from autolrs._spec import job_name; print(job_name(None))"


@pytest.mark.parametrize(
    ("started", "name"),
    [
        (["-m", "package.train"], "train"),
        (["-m", "package"], "package"),
        (["package/train.py"], "train"),
        (["package"], "package"),
        (["-c", PRINTS_A_NAME], "job"),
        (["-"], "job"),
        ([], "job"),
    ],
)
def test_a_name_without_being_asked(started: list[str], name: str, tmp_path: Path) -> None:
    """`<script>-<time>`, however Python was started."""
    package = tmp_path / "package"
    package.mkdir()
    for file in ("train.py", "__main__.py"):
        (package / file).write_text(PRINTS_A_NAME)
    place = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, *started],
        input=PRINTS_A_NAME,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": place},
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(rf"{name}-\d{{8}}-\d{{6}}-\d{{3}}\n", done.stdout), done.stdout + done.stderr


def test_server_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOLRS_SERVER", raising=False)
    assert server_address(None) == "http://127.0.0.1:7461"
    monkeypatch.setenv("AUTOLRS_SERVER", "box:50051")
    assert server_address(None) == "http://box:50051"
    assert server_address("https://other") == "https://other"


def test_describes_only_what_was_set() -> None:
    common = {"expected_steps": None, "options": None, "max_overhead": None, "guard": None, "labels": None}
    spec = describe(
        total_steps=10,
        policy="scan",
        lr_range=(1e-4, 1),
        fallback_lr=0.1,
        seed=0,
        loss_lower_bound=None,
        **common,
    )
    assert spec == {
        "total_steps": 10,
        "policy": "scan",
        "fallback_lr": 0.1,
        "seed": 0,
        "loss_lower_bound": None,
        "lr_min": 1e-4,
        "lr_max": 1.0,
    }


def test_the_absence_of_a_budget_is_said() -> None:
    def budget(total_steps: int | None, expected_steps: int | None) -> dict[str, object]:
        spec = describe(
            total_steps=total_steps,
            expected_steps=expected_steps,
            policy="scan",
            options=None,
            lr_range=None,
            fallback_lr=0.1,
            seed=0,
            loss_lower_bound=0.0,
            max_overhead=None,
            guard=None,
            labels=None,
        )
        return {key: value for key, value in spec.items() if key in ("total_steps", "open_budget")}

    assert budget(10, None) == {"total_steps": 10}
    assert budget(None, None) == {"open_budget": {}}
    assert budget(None, 500) == {"open_budget": {"expected_steps": 500}}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(1)) for _ in range(3)]


def test_lr_range_follows_the_family() -> None:
    class MyAdam(torch.optim.Adam):
        pass

    assert lr_range_of(torch.optim.SGD(parameters(), lr=0.1)) == (1e-4, 10.0)
    assert lr_range_of(torch.optim.AdamW(parameters())) == lr_range_of(MyAdam(parameters())) == (1e-6, 0.3)
    with pytest.raises(InvalidSpec, match="lr_range") as error:
        lr_range_of(torch.optim.Rprop(parameters()))
    assert error.value.violations[0][0] == "lr_range"


def test_groups_keep_their_ratio_and_zero_stays_zero() -> None:
    a, b, c = parameters()
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.02}, {"params": [b]}, {"params": [c], "lr": 0.0}], lr=0.1)
    groups = GroupLRs(optimizer)
    assert groups.base == 0.1
    groups.put(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.2), 1.0, 0.0]
    assert groups.untouched()
    optimizer.add_param_group({"params": parameters()[:1], "lr": 0.05})
    groups.put(2.0)
    assert optimizer.param_groups[3]["lr"] == pytest.approx(1.0)


def test_lr_zero_everywhere_is_refused() -> None:
    with pytest.raises(InvalidSpec):
        GroupLRs(torch.optim.SGD(parameters(), lr=0.0))


def test_a_tensor_lr_is_filled() -> None:
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = tensor = torch.tensor(0.1)
    groups = GroupLRs(optimizer)
    groups.put(0.5)
    assert optimizer.param_groups[0]["lr"] is tensor and tensor.item() == 0.5


def test_another_scheduler_is_told_once_and_ours_wins() -> None:
    optimizer = torch.optim.SGD(parameters(), lr=0.1)
    groups = GroupLRs(optimizer)
    groups.put(0.3)
    optimizer.param_groups[0]["lr"] = 0.7
    assert not groups.untouched()
    with pytest.warns(AutoLRSWarning, match="set the LR to 0.7; the schedule's is 0.3"):
        groups.reclaim()
    assert optimizer.param_groups[0]["lr"] == 0.3
    optimizer.param_groups[0]["lr"] = 0.8
    groups.reclaim()
    assert optimizer.param_groups[0]["lr"] == 0.3


@pytest.mark.parametrize("loss", [1.5, torch.tensor(1.5), torch.tensor([1.5], requires_grad=True)])
@pytest.mark.filterwarnings("error")
def test_host_losses(loss: object) -> None:
    assert host_value(loss) == 1.5  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="use loss.mean"):
        host_value(torch.ones(3))


def test_a_loss_with_its_graph_is_read_without_a_warning() -> None:
    loss = (torch.ones(1, requires_grad=True) * 1.5).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)
        try:
            assert host_value(loss) == 1.5
        finally:
            torch.set_warn_always(False)


def test_device_losses_arrive_in_order_and_are_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    for name in ("item", "cpu", "tolist", "__float__", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *args: object, _original=original, _name=name) -> object:  # type: ignore
            read.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    losses = DeviceLosses()
    for i in range(8):
        losses.add(torch.tensor(float(i), requires_grad=True))
    assert read == []
    assert losses.ripe() == [0.0] and read == ["tolist"], "the first loss after the last switch point still decides"
    for loss in (8.0, torch.tensor([math.inf]), torch.tensor(10.0)):
        losses.add(loss)
    assert losses.ripe() == [float(i) for i in range(1, 9)]
    losses.add(11.0)
    assert losses.drain() == [math.inf, 10.0, 11.0]
    assert losses.drain() == []
