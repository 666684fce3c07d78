"""What only the newest PyTorch has: compiled steps, optimizers on the device, loaders with a state, strict loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trainer
from conftest import Server
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

import autolrs.torch as autolrs

TOTAL_STEPS = 800  # scan searches from 720 on
DATA = list(zip(trainer.X, trainer.Y))


def make(**options: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    return model, torch.optim.AdamW(model.parameters(), **{"lr": 1e-3, **options})


def run(
    server: Server, job: str, model: nn.Module, optimizer: Any, loader: Any = trainer.batches, **options: Any
) -> Any:
    options = {"server": server.address, "job": job, "policy": "scan", **options}
    with autolrs.Schedule(optimizer, model, options.pop("total_steps", TOTAL_STEPS), **options) as schedule:
        for batch in schedule.steps(loader):
            schedule.step(trainer.train_step(model, optimizer, batch))
    assert schedule.done_reason == "finished"
    return schedule


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "expected"), [("tensor", 1), ("float", 2)])
def test_a_new_lr_compiles_nothing_anew(server: Server, kind: str, expected: int) -> None:
    """A float is compiled once more, at its first change: PyTorch then takes it for a number that varies. The start of
    a trial may compile once, as the optimizer's state is a new one; a committed step after the first never does."""
    torch._dynamo.reset()
    model, optimizer = make(lr=torch.tensor(1e-3) if kind == "tensor" else 1e-3)
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    step = torch.compile(optimizer.step, backend=backend)
    options: dict[str, Any] = {"server": server.address, "job": "toy"}
    seen = set()
    with autolrs.Schedule(optimizer, model, TOTAL_STEPS, **options) as schedule:
        for x, y in schedule.steps(trainer.batches):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            step()
            schedule.step(loss)
            seen.add(schedule.lr)
            if schedule.committed_step <= 1:
                before = len(compiled)
    assert len(seen) > 300 and any(step.kind == "search" for step in schedule.history)
    assert len(compiled) == before, "no committed step has compiled anything"
    starts = len({step.seq for step in schedule.history if step.kind == "search"})
    assert expected <= before <= expected + starts


@pytest.mark.parametrize(
    "options",
    [
        {"fused": True},
        {"foreach": True},
        {"fused": True, "lr": torch.tensor(1e-3)},
        {"foreach": False, "lr": torch.tensor(1e-3)},
    ],
    ids=str,
)
def test_kinds_of_optimizers(server: Server, options: dict[str, Any]) -> None:
    """Each has the LR of the schedule at every step; a tensor stays the same tensor."""
    model, optimizer = make(**options)
    lr = optimizer.param_groups[0]["lr"]
    with autolrs.Schedule(optimizer, model, TOTAL_STEPS, server=server.address, job="toy") as schedule:
        for batch in schedule.steps(trainer.batches):
            assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(schedule.lr, rel=1e-6)
            schedule.step(trainer.train_step(model, optimizer, batch))
    assert schedule.done_reason == "finished" and any(step.kind == "search" for step in schedule.history)
    if isinstance(lr, torch.Tensor):
        assert optimizer.param_groups[0]["lr"] is lr


def test_a_stateful_loader_is_rewound(server: Server) -> None:
    """Its trials see the same batches, as with a function that is called again."""
    model, optimizer = make()
    loader: Any = StatefulDataLoader(DATA, batch_size=32, num_workers=0)
    rewound = run(server, "stateful", model, optimizer, loader)

    def function(position: int) -> Any:
        while True:
            rows = slice(position % 20 * 32, (position % 20 + 1) * 32)
            yield trainer.X[rows], trainer.Y[rows]
            position += 1

    model, optimizer = make()
    called = run(server, "function", model, optimizer, function)
    assert len({step.seq for step in called.history if step.kind == "search"}) >= 3
    assert [step.loss for step in rewound.history] == [step.loss for step in called.history]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_however_they_are_started(server: Server, start: str) -> None:
    model, optimizer = make()
    loader = torch.utils.data.DataLoader(
        DATA, 32, num_workers=2, multiprocessing_context=start, persistent_workers=True
    )
    run(server, "toy", model, optimizer, loader, policy="constant", total_steps=60)


def test_the_users_own_file_is_loaded_strictly(server: Server, tmp_path: Path) -> None:
    """`torch.load` takes no pickled objects unless it is told to; a checkpoint of a search holds a slot, too."""
    model, optimizer = make()
    schedule = autolrs.Schedule(optimizer, model, 800, server=server.address, job="toy", rng=True)
    for _, batch in zip(range(30), schedule.steps(trainer.batches)):
        schedule.step(trainer.train_step(model, optimizer, batch))
    assert schedule.searching
    torch.save({"schedule": schedule.state_dict()}, tmp_path / "checkpoint.pt")
    schedule.close()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["schedule"]
    model, optimizer = make()
    resumed = run(server, "toy", model, optimizer, total_steps=800, resume=state, rng=True)
    assert resumed.total_step == 800
