"""Stories of several processes, for any PyTorch and any number of them: real torchrun, real gloo, the real server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import ranks_trainer
import trainer

import autolrs.torch as autolrs

HERE = Path(__file__).parent


def torchrun(
    script: str, *arguments: object, ranks: int, restarts: int = 0, seconds: int = 280
) -> subprocess.CompletedProcess[str]:
    """Runs the script in `ranks` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc_per_node={ranks}"]
    command += ["--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}", f"--max_restarts={restarts}"]
    # Of a rank that is not there: PyTorch 1.13 on Python 3.11 does not know its own default.
    command += ["--redirects=9:1", "--tee=9:1"] if sys.version_info >= (3, 11) and _old() else []
    command += [str(HERE / script), *map(str, arguments)]
    # Otherwise ranks of PyTorch 2.15 that are started again get gloo addresses of ranks that are gone.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    print(done.stdout[-4000:], done.stderr[-8000:])
    return done


def _old() -> bool:
    import torch

    return torch.__version__.startswith("1.")


def undisturbed(address: str) -> dict[str, Any]:
    """The same training in one process, whose losses are read late as well."""
    model, optimizer = trainer.make()
    options: dict[str, Any] = {"server": address, "job": "alone", "device_losses": True}
    with autolrs.Schedule(optimizer, model, trainer.TOTAL_STEPS, **options) as schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
    return {**as_read(ranks_trainer.story(schedule)), "weights": ranks_trainer.digest(model)}


def as_read(value: Any) -> Any:
    return json.loads(json.dumps(value))


def unnumbered(step: list[Any]) -> list[Any]:
    return [step[0], *step[2:]]


def ends(directory: Path, ranks: int) -> list[dict[str, Any]]:
    """What each rank says at the end; all the same."""
    said = [json.loads((directory / f"end-{rank}.json").read_text()) for rank in range(ranks)]
    assert all(each == said[0] for each in said), "history, state and weights of all ranks are the same to the bit"
    return said


def in_force(directory: Path, ranks: int) -> list[tuple[int, str]]:
    """The LR in force at every step of the job, which all ranks have trained it at."""
    final: dict[int, str] = {}
    for attempt in range(9):
        files = [directory / f"lrs-{attempt}-{rank}" for rank in range(ranks)]
        if not files[0].exists():
            break
        lines = [file.read_text().splitlines() for file in files]
        common = min(map(len, lines))  # one may have been killed before another
        assert all(each[:common] == lines[0][:common] for each in lines), f"attempt {attempt}"
        assert max(map(len, lines)) - common <= 1
        final.update((int(step), lr) for step, lr in (line.split() for line in lines[0]))
    return sorted(final.items())


def is_the_undisturbed_one(address: str, directory: Path, ranks: int, job: str) -> None:
    reference, said = undisturbed(address), ends(directory, ranks)[0]
    assert said["weights"] == reference["weights"]
    assert said["state"] == reference["state"]
    assert said["job"] == job
    # A search that begins again has other numbers of directives.
    assert [unnumbered(step) for step in said["history"]] == [unnumbered(step) for step in reference["history"]]
    assert in_force(directory, ranks) == [(step[0], step[3]) for step in reference["history"]]


def alike(server: Any, directory: Path, ranks: int) -> None:
    """Losses that differ have the mean that a process alone reports: the same schedule and weights. One is slow."""
    done = torchrun("ranks_trainer.py", server.address, "toy", directory, "--apart", "--slow", 1, ranks=ranks)
    assert done.returncode == 0
    is_the_undisturbed_one(server.address, directory, ranks, "toy")


def shards(server: Any, directory: Path, ranks: int) -> None:
    """Each rank has its own part of the data."""
    arguments = [server.address, "toy", directory, "--shards", "--module"]
    assert torchrun("ranks_trainer.py", *arguments, ranks=ranks).returncode == 0
    said = ends(directory, ranks)[0]
    assert said["state"][0] == "finished" and said["state"][3] == trainer.TOTAL_STEPS
    assert in_force(directory, ranks) == [(step[0], step[3]) for step in said["history"]]
    assert {step[5] for step in said["history"]} == {"search", "committed"}
    losses = [float.fromhex(step[4]) for step in said["history"]]
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def broken(server: Any, directory: Path, ranks: int, fault: str, rank: int, step: int) -> None:
    """A rank is killed, or raises; torchrun starts all of them again. Off a switch point, in or after the search."""
    arguments = ["--fault", fault, "--rank", rank, "--step", step]
    done = torchrun("ranks_trainer.py", server.address, "toy", directory, *arguments, ranks=ranks, restarts=1)
    assert done.returncode == 0
    assert (directory / "lrs-1-0").exists(), "it was started again"
    if fault == "raise":
        assert (directory / f"error-0-{rank}").read_text() == "ValueError"
        others = [path.read_text() for path in directory.glob("error-0-*") if path.name != f"error-0-{rank}"]
        assert len(others) == ranks - 1, "they ended, and had closed the schedule before"
    is_the_undisturbed_one(server.address, directory, ranks, "toy")


def checks(server: Any, directory: Path, ranks: int) -> None:
    """What else a schedule does on every rank; see ranks_checks.py."""
    arguments = [server.address, server.pid, directory]
    done = torchrun("ranks_checks.py", *arguments, ranks=ranks)
    assert done.returncode == 0
    said = [json.loads((directory / f"checks-{rank}.json").read_text()) for rank in range(ranks)]
    names = [name for name in said[0] if not name.startswith("only")]
    for name in names:
        assert [each[name] for each in said] == [said[0][name]] * ranks, name
