"""Slots on disk: bit for bit, for this process alone, gone with it; and a disk that is full."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolrs._disk import DiskStore
from autolrs._exceptions import Error
from autolrs._slots import TorchSlots

DTYPES = [
    getattr(torch, name)
    for name in (
        "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128 "
        "float8_e4m3fn float8_e5m2 uint16 uint32 uint64"
    ).split()
    if hasattr(torch, name)
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    made = DiskStore(tmp_path)
    yield made
    made.close()


def own_directory(parent: Path) -> Path:
    (directory,) = parent.glob("autolrs-slots-*")
    return directory


def bits(tensor: Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def random_bits(dtype: torch.dtype, *shape: int) -> Tensor:
    """Any bits at all, NaN of every kind among them."""
    element = torch.empty(1, dtype=dtype).element_size()
    high = 2 if dtype is torch.bool else 256
    data = torch.randint(0, high, (*shape[:-1], shape[-1] * element), dtype=torch.uint8)
    return data.view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_comes_back_to_the_bit(store: DiskStore, dtype: torch.dtype) -> None:
    live = {
        "vector": random_bits(dtype, 1000),
        "scalar": random_bits(dtype, 1).reshape(()),
        "transposed": random_bits(dtype, 3, 5).t(),
        "part": random_bits(dtype, 8, 6)[::2, 1:4],
        "empty": torch.empty((0, 4), dtype=dtype),
    }
    store.save("SAFE", lambda keep, old: {name: keep(value, None) for name, value in live.items()})
    read = store.content("SAFE")
    for name, value in live.items():
        assert (read[name].dtype, read[name].shape) == (dtype, value.shape)
        assert bits(read[name]) == bits(value)
    assert read["transposed"].stride() == live["transposed"].stride(), "and in the same order"


def test_values_and_odd_tensors_are_kept_beside(store: DiskStore) -> None:
    sparse = torch.eye(3).to_sparse()
    others = {"betas": (0.9, 0.99), "none": None, "of": [True, 2**80, "x"], 3: {"deep": 1.5}}
    store.save("SAFE", lambda keep, old: {"sparse": keep(sparse, None), **others})
    read = store.content("SAFE")
    assert torch.equal(read.pop("sparse").to_dense(), torch.eye(3))
    assert read == others


def test_a_file_holds_the_bytes_of_its_tensors_and_nothing_else(store: DiskStore, tmp_path: Path) -> None:
    first, second = torch.randn(5), torch.randn(7)
    store.save("SAFE", lambda keep, old: {"state": [keep(first, None), {"deep": keep(second, None)}], "name": "x" * 99})
    raw = (own_directory(tmp_path) / "SAFE.slot").read_bytes()
    assert raw == first.numpy().tobytes().ljust(64, b"\0") + second.numpy().tobytes()


def test_only_its_user_may_look_into_it(store: DiskStore, tmp_path: Path) -> None:
    directory = own_directory(tmp_path)
    before = os.umask(0)
    try:
        store.save("SAFE", lambda keep, old: {"x": keep(torch.ones(9), None)})
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [file.name for file in directory.iterdir()] == ["SAFE.slot"]


def test_what_was_read_stays_when_the_slot_is_written_anew(store: DiskStore, tmp_path: Path) -> None:
    def save(value: float) -> None:
        store.save("SAFE", lambda keep, old: {"x": keep(torch.full((9,), value), None)})

    save(1.0)
    read = store.content("SAFE")["x"]
    save(2.0)
    assert read.tolist() == [1.0] * 9 and store.content("SAFE")["x"].tolist() == [2.0] * 9
    read.fill_(3.0)
    assert store.content("SAFE")["x"].tolist() == [2.0] * 9, "a reader changes its own view"
    (own_directory(tmp_path) / "SAFE.slot").unlink()  # a zealous cleaner
    assert store.content("SAFE")["x"].tolist() == [2.0] * 9
    store.drop("SAFE")
    assert store.names() == []


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_a_damaged_file_is_refused_before_anything_is_put_back(store: DiskStore, tmp_path: Path, damage: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    slots = TorchSlots(model, torch.optim.SGD(model.parameters(), lr=0.1), [], rng=False, store=store)
    slots.save("SAFE")
    path = own_directory(tmp_path) / "SAFE.slot"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1  # in the last parameter
    path.write_bytes(raw if damage == "changed" else raw[:-1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    with pytest.raises(Error, match="is not what was written"):
        slots.restore("SAFE")
    assert all((parameter == 7.0).all() for parameter in model.parameters())


def test_goes_with_its_closing(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.save("SAFE", lambda keep, old: {"x": keep(torch.ones(9), None)})
    store.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Error, match="removed with the schedule's closing"):
        store.content("SAFE")
    store.save("SAFE", lambda keep, old: {"x": keep(torch.ones(9), None)})
    assert store.content("SAFE")["x"].sum() == 9, "a schedule that goes on after load_state_dict"
    store.close()
    assert list(tmp_path.iterdir()) == []


PROCESS = """
import os, sys, torch
from autolrs._disk import DiskStore
store = DiskStore(sys.argv[1])
store.save("SAFE", lambda keep, old: {"x": keep(torch.ones(9), None)})
"""


def run(code: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS + code, str(directory)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ["", "raise SystemError"])
def test_goes_at_the_interpreters_exit(tmp_path: Path, end: str) -> None:
    process = run(f"assert os.listdir(sys.argv[1])\nprint('there', flush=True)\n{end}", tmp_path)
    assert process.communicate()[0] == "there\n"
    assert process.returncode == (1 if end else 0)
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_leaves_it_alone(tmp_path: Path) -> None:
    code = """
pid = os.fork()
if pid == 0:
    sys.exit(0)  # an interpreter's exit, with all that is to be done then
os.waitpid(pid, 0)
print(store.content("SAFE")["x"].sum().item(), len(os.listdir(sys.argv[1])))
"""
    assert run(code, tmp_path).communicate()[0] == "9.0 1\n"


def test_what_killed_processes_left_is_removed_and_the_living_are_not(tmp_path: Path) -> None:
    parent, elsewhere = tmp_path / "slots", tmp_path / "elsewhere"
    parent.mkdir()
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    wait = "print('ready', flush=True); sys.stdin.read(); print(store.content('SAFE')['x'].sum().item())"
    killed, living = run(wait, parent), run(wait, parent)
    for process in (killed, living):
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    left = next(path for path in parent.iterdir() if f"-{killed.pid}-" in path.name)
    link = left.with_name(left.name + "-link")
    link.symlink_to(elsewhere)
    (left / "link").symlink_to(elsewhere)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.exists()
    store = DiskStore(parent)
    pids = {path.name.split("-")[-2] for path in parent.iterdir() if path != link}
    assert pids == {str(living.pid), str(os.getpid())} and not left.exists()
    assert link.is_symlink() and (elsewhere / "file").exists(), "links are not followed"
    store.close()
    assert living.communicate("\n")[0] == "9.0\n"
    assert list(parent.iterdir()) == [link]


def test_a_directory_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        DiskStore(tmp_path / "absent")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs needs root: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path) -> None:
    model = nn.Linear(200, 300)  # 241 kB
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.1)
    store = DiskStore(small_disk)
    slots = TorchSlots(model, optimizer, [], rng=False, store=store)
    slots.save("SAFE")
    saved = model.weight.detach().clone()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(700_000))
    with torch.no_grad():
        model.weight.add_(1.0)
    now = model.weight.detach().clone()
    for name in ("SAFE", "BEST"):
        said = f"slot {name} could not be written to {small_disk}.*No space left.*MB are free"
        with pytest.raises(Error, match=said):
            slots.save(name)
    assert torch.equal(model.weight, now), "training is as it was"
    assert slots.names() == ["SAFE"] and len(list(own_directory(small_disk).iterdir())) == 1
    slots.restore("SAFE")
    assert torch.equal(model.weight, saved), "and the older copy too"
    filler.unlink()
    slots.save("BEST")
    assert slots.names() == ["SAFE", "BEST"]
    store.close()
