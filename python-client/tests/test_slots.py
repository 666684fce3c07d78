"""Slots give back every bit, in place, and remove what did not exist."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autolrs._capture import restore_optimizer
from autolrs._disk import DiskStore
from autolrs._exceptions import CheckpointMismatch
from autolrs._memory import MemoryStore
from autolrs._slots import Store, TorchSlots

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2),
}


STORES: dict[str, Callable[[], Store]] = {
    "device": lambda: MemoryStore(on_host=False),
    "host": lambda: MemoryStore(on_host=True),
    "disk": lambda: DiskStore(None),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    made = STORES[request.param]()
    yield made
    made.close()


def in_memory() -> Store:
    return MemoryStore(on_host=False)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        self.unused = nn.Linear(2, 2)
        self.tied = self.net[4]
        self.register_buffer("temporary", torch.arange(3.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.temporary += 1
        return self.net(x)


def make(optimizer: str) -> tuple[Net, Optimizer]:
    torch.manual_seed(0)
    model = Net()
    return model, OPTIMIZERS[optimizer](model.parameters())


def train(model: nn.Module, optimizer: Optimizer, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 1, 8, 8, generator=generator)
        y = torch.randint(0, 3, (8,), generator=generator)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)


def everything(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return copy.deepcopy({"model": model.state_dict(), "buffers": buffers, "optimizer": optimizer.state_dict()})


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return bool(a == b)


def addresses(model: nn.Module, optimizer: Optimizer) -> list[int]:
    state = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    return [t.data_ptr() for t in [*model.parameters(), *model.buffers(), *state]]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_restores_every_bit(optimizer: str, store: Store) -> None:
    model, opt = make(optimizer)
    slots = TorchSlots(model, opt, [], rng=False, store=store)
    train(model, opt, 3)
    before = everything(model, opt)
    slots.save("SAFE")
    train(model, opt, 4, seed=2)
    assert not same(before, everything(model, opt))
    slots.restore("SAFE")
    assert same(before, everything(model, opt))
    train(model, opt, 2, seed=3)
    after = everything(model, opt)
    slots.restore("SAFE")
    train(model, opt, 2, seed=3)
    assert same(after, everything(model, opt)), "training on from a restored slot is training on from there"


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adamw"])
def test_keeps_addresses(optimizer: str, store: Store) -> None:
    model, opt = make(optimizer)
    slots = TorchSlots(model, opt, [], rng=False, store=store)
    train(model, opt, 2)
    slots.save("SAFE")
    live = addresses(model, opt)
    train(model, opt, 2)
    slots.restore("SAFE")
    assert addresses(model, opt) == live


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_empty_optimizer_state_is_restored_as_empty(optimizer: str, store: Store) -> None:
    model, opt = make(optimizer)
    slots = TorchSlots(model, opt, [], rng=False, store=store)
    before = everything(model, opt)
    slots.save("START")
    train(model, opt, 3)
    slots.restore("START")
    assert not opt.state
    assert same(before, everything(model, opt))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_saving_again_reuses_the_memory_and_does_not_alias() -> None:
    model, opt = make("adam")
    slots = TorchSlots(model, opt, [], rng=False, store=in_memory())
    train(model, opt, 1)
    slots.save("SAFE")
    tensors = slots.content("SAFE")["model"]["tensors"]
    held = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    assert not set(held.values()) & set(addresses(model, opt))
    train(model, opt, 1)
    slots.save("SAFE")
    assert {name: t.data_ptr() for name, t in slots.content("SAFE")["model"]["tensors"].items()} == held
    before = everything(model, opt)
    train(model, opt, 1)
    slots.restore("SAFE")
    assert same(before, everything(model, opt))


def test_keeps_what_else_is_passed(store: Store) -> None:
    model, opt = make("sgd")
    ema = torch.optim.swa_utils.AveragedModel(model)
    second = torch.optim.Adam(nn.Linear(2, 2).parameters(), lr=0.5)
    temperature = torch.ones(1)
    generator = torch.Generator().manual_seed(5)

    class Counter:
        value = 3

        def state_dict(self) -> dict[str, int]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.value = state["value"]

    counter = Counter()
    slots = TorchSlots(model, opt, [ema, second, temperature, generator, counter], rng=False, store=store)
    slots.save("START")
    expected = torch.rand(4, generator=generator)
    before = copy.deepcopy(ema.state_dict())
    train(model, opt, 2)
    ema.update_parameters(model)
    second.param_groups[0]["lr"] = 0.1
    temperature.add_(1)
    counter.value = 9
    slots.restore("START")
    assert same(before, ema.state_dict())
    assert second.param_groups[0]["lr"] == 0.5
    assert temperature.item() == 1
    assert counter.value == 3
    assert torch.equal(torch.rand(4, generator=generator), expected)


def test_keeps_parameters_that_only_the_optimizer_knows() -> None:
    model, _ = make("sgd")
    scale = nn.Parameter(torch.ones(2))
    opt = torch.optim.SGD([*model.parameters(), scale], lr=0.1)
    slots = TorchSlots(model, opt, [], rng=False, store=in_memory())
    slots.save("START")
    with torch.no_grad():
        scale.mul_(3)
    slots.restore("START")
    assert torch.equal(scale, torch.ones(2))


def test_rng_only_if_asked() -> None:
    model, opt = make("sgd")
    for rng in (False, True):
        slots = TorchSlots(model, opt, [], rng=rng, store=in_memory())
        slots.save("START")
        first = (torch.rand(2).tolist(), random.random(), np.random.rand())
        slots.restore("START")
        again = (torch.rand(2).tolist(), random.random(), np.random.rand())
        assert (first == again) is rng


def test_content_survives_a_file_and_another_process(tmp_path: Any, store: Store) -> None:
    model, opt = make("adam")
    train(model, opt, 3)
    before = everything(model, opt)
    slots = TorchSlots(model, opt, [], rng=True, store=store)
    slots.save("START")
    torch.save(slots.content("START"), tmp_path / "slot.pt")

    model, opt = make("adam")
    slots = TorchSlots(model, opt, [], rng=True, store=in_memory())
    slots.adopt("START", torch.load(tmp_path / "slot.pt"))
    assert same(before, everything(model, opt))
    assert slots.names() == ["START"]


def test_another_model_is_refused_by_name() -> None:
    model, opt = make("sgd")
    slots = TorchSlots(model, opt, [], rng=False, store=in_memory())
    slots.save("START")
    other = nn.Linear(2, 2)
    slots_of_other = TorchSlots(other, torch.optim.SGD(other.parameters(), lr=1.0), [], rng=False, store=in_memory())
    with pytest.raises(CheckpointMismatch, match="The model has no"):
        slots_of_other.adopt("START", slots.content("START"))


def test_memory_is_told_before_the_first_save(caplog: pytest.LogCaptureFixture) -> None:
    model, opt = make("adam")
    slots = TorchSlots(model, opt, [], rng=False, store=MemoryStore(on_host=True))
    with caplog.at_level("INFO", logger="autolrs"):
        slots.save("START")
    parameters = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    assert slots.size() == parameters
    assert "host memory" in caplog.text


def test_training_mode_is_not_touched() -> None:
    model, opt = make("sgd")
    slots = TorchSlots(model, opt, [], rng=False, store=in_memory())
    slots.save("START")
    model.eval()
    slots.restore("START")
    assert not any(module.training for module in model.modules())


def test_size_and_place_of_slots_on_disk_are_told_before_the_first_save(
    caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    model, opt = make("adam")
    store = DiskStore(tmp_path)
    slots = TorchSlots(model, opt, [], rng=False, store=store)
    with caplog.at_level("INFO", logger="autolrs"):
        slots.save("START")
        slots.save("START")
    (record,) = caplog.records
    assert f"{slots.size() / 1e6:.1f} MB of the disk at {tmp_path}" in record.message
    store.close()


@pytest.mark.parametrize("flag", ["capturable", "fused", None])
def test_new_state_goes_where_the_optimizer_wants_it(flag: str | None) -> None:
    """A copy on the host gives a state on the parameter's device; here that is "meta", as every machine has it."""
    parameter = nn.Parameter(torch.ones(2, device="meta"))
    opt = torch.optim.Adam([parameter])
    if flag is not None:
        opt.param_groups[0][flag] = True
    state = {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}
    groups = [{key: value for key, value in opt.param_groups[0].items() if key != "params"}]
    restore_optimizer(opt, {"state": {0: state}, "other": {}, "groups": groups})
    restored = opt.state[parameter]
    assert restored["exp_avg"].device.type == "meta"
    assert restored["step"].device.type == ("cpu" if flag is None else "meta")
