"""What the Python client costs a training, as rows with quantiles in seconds: `make bench`, by run.py.

- `step`: one call with a float, a tensor on the host, and a tensor that is read in batches of eight (as from a
  device); the mean of 400 calls, the ends of directives among them, beside an empty call.
- Slots: a save and a restore of a model of 8.4 million weights with Adam's moments (101 MB in all), each next to what
  one would write by hand: `copy.deepcopy` of both state dicts, and `load_state_dict` of such a copy.
- A real training, a small CNN on real images under `scan`: the share of its wall time spent in the client, waiting for
  the server, copying and restoring included. That row's quantiles are shares, not seconds.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import autolrs.torch as autolrs

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/python"), str(ROOT / "python-client/examples")]

import images  # noqa: E402
import trainer  # noqa: E402
from serving import Server  # noqa: E402

CALLS, CALL_ROUNDS = 400, 60
SLOT_ROUNDS = 25
RUNS, STEPS = 5, 1500

Times = dict[str, list[float]]


def measurements() -> Times:
    """Every row's times, by name."""
    torch.set_num_threads(1)
    with server() as address:
        return {**step_times(address), **slot_times(address), **run_shares(address)}


@contextmanager
def server() -> Iterator[str]:
    """The address of a server on an empty store."""
    os.environ.setdefault("AUTOLRS_BIN", "target/release/autolrs")
    with tempfile.TemporaryDirectory() as directory:
        running = Server(Path(directory))
        running.start()
        try:
            yield running.address
        finally:
            running.kill()


def step_times(address: str) -> Times:
    def constant(job: str, loss: Any, **options: Any) -> list[float]:
        model, optimizer = trainer.make()
        with autolrs.Schedule(
            optimizer, model, 65_536, server=address, job=job, policy="constant", guard=False, **options
        ) as schedule:
            return calls(schedule.step, loss)

    return {
        "empty_call_python": calls(lambda loss: None, 1.0),
        "step_python_float": constant("float", 1.0),
        "step_python_tensor": constant("tensor", torch.tensor(1.0)),
        "step_python_tensor_by_8": constant("device", torch.tensor(1.0), device_losses=True),
    }


def calls(call: Callable[[Any], None], argument: Any) -> list[float]:
    times = []
    for _ in range(CALL_ROUNDS):
        begun = time.perf_counter()
        for _ in range(CALLS):
            call(argument)
        times.append((time.perf_counter() - begun) / CALLS)
    return times


def slot_times(address: str) -> Times:
    """Ours and the plain copy in turn, round by round."""
    model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(8)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 1024)).sum().backward()
    optimizer.step()
    with autolrs.Schedule(
        optimizer, model, 100, server=address, job="slots", policy="constant", guard=False
    ) as schedule:
        return slots_beside_copies(schedule, model, optimizer)


def slots_beside_copies(schedule: autolrs.Schedule, model: nn.Module, optimizer: torch.optim.Optimizer) -> Times:
    slots = schedule._slots
    plain: Any = None

    def save_plain() -> None:
        nonlocal plain
        plain = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    def restore_plain() -> None:
        model.load_state_dict(plain[0])
        optimizer.load_state_dict(plain[1])

    works: dict[str, Callable[[], object]] = {
        "slot_save": lambda: slots.save("START"),
        "deepcopy_of_state_dicts": save_plain,
        "slot_restore": lambda: slots.restore("START"),
        "load_state_dict_of_both": restore_plain,
    }
    times: Times = {name: [] for name in works}
    for _ in range(SLOT_ROUNDS):
        plain = None
        slots.drop("START")
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begun)
    return times


def run_shares(address: str) -> Times:
    data = images.load()
    return {"share_of_a_run": [run_share(address, data, seed) for seed in range(RUNS)]}


def run_share(address: str, data: images.Images, seed: int) -> float:
    """Time outside of the loop's own work (batches, forward, backward, optimizer) over all time, opening and closing
    included."""
    model = images.small_cnn(data, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    work = 0.0

    def loader(position: int) -> Iterator[images.Batch]:
        nonlocal work
        batches = data.batches(position, 64, seed)
        while True:
            begun = time.perf_counter()
            batch = next(batches)
            work += time.perf_counter() - begun
            yield batch

    started = time.perf_counter()
    with autolrs.Schedule(optimizer, model, STEPS, server=address, job=f"run-{seed}") as schedule:
        for batch in schedule.steps(loader):
            begun = time.perf_counter()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            value = loss.item()
            work += time.perf_counter() - begun
            schedule.step(value)
    return 1 - work / (time.perf_counter() - started)
