"""A data-parallel training for torchrun, with faults on purpose.

    torchrun --nproc_per_node 2 ranks_trainer.py ADDRESS JOB DIRECTORY [--shards] [--apart] [--module]
        [--fault kill|raise --rank RANK --step STEP] [--slow RANK]

Every rank writes DIRECTORY/lrs-ATTEMPT-RANK, one line "step lr" with the LR in force (of the optimizer, as float hex)
before each step, and at the end DIRECTORY/end-RANK.json. Rank 0 writes a checkpoint at the start and every 13 steps,
from which all go on after a restart.

All ranks train on the same batches, so that mean loss and mean gradient are a single process's to the bit; with --apart
the losses that they report differ, with the same mean. With --shards each has its own part of every batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import trainer
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import autolrs.torch as autolrs


def batches_of(rank: int, size: int) -> Any:
    """A loader that gives the part of rank `rank`."""

    def loader(position: int) -> Iterator[Any]:
        for x, y in trainer.batches(position):
            yield x[rank::size], y[rank::size]

    return loader


def digest(model: torch.nn.Module, buffers: bool = True) -> str:
    """The weights, and the buffers, to the bit."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items() if buffers else model.named_parameters()):
        total.update(name.encode() + value.detach().numpy().tobytes())
    return total.hexdigest()


def story(schedule: autolrs.Schedule) -> dict[str, Any]:
    """What a schedule says of itself."""
    steps = [(s.total_step, s.seq, s.phase, s.lr.hex(), s.loss.hex(), s.kind) for s in schedule.history]
    state = [schedule.done_reason, schedule.phase, schedule.committed_step, schedule.total_step, schedule.lr.hex()]
    return {"job": schedule.job, "history": steps, "state": [*state, schedule.searching, schedule.detached]}


def write(path: Path, content: Any) -> None:
    path.with_suffix(".new").write_text(json.dumps(content))
    os.replace(path.with_suffix(".new"), path)


def main(arguments: argparse.Namespace) -> None:
    rank, size = distributed.get_rank(), distributed.get_world_size()
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    directory: Path = arguments.directory
    checkpoint = directory / "checkpoint.pt"
    saved = torch.load(checkpoint) if checkpoint.exists() else None
    distributed.barrier()  # nobody writes it before all have read it
    model, optimizer = trainer.make()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    parallel = DistributedDataParallel(model)
    schedule = autolrs.Schedule(
        optimizer,
        model if arguments.module else parallel,
        trainer.TOTAL_STEPS,
        server=arguments.address,
        job=arguments.job,
        resume=None if saved is None else saved["schedule"],
    )
    sign = (1 if rank % 2 == 0 else -1) if arguments.apart else 0
    faulty = attempt == 0 and rank == arguments.rank
    if attempt == 0 and arguments.fault == "raise" and not faulty:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is to end by itself
    with (directory / f"lrs-{attempt}-{rank}").open("w") as lrs, schedule:
        steps = schedule.steps(batches_of(rank, size) if arguments.shards else trainer.batches)
        if rank == 0 and saved is None:
            trainer.save(checkpoint, model, optimizer, schedule)
        for count, batch in enumerate(steps, start=1):
            print(schedule.total_step, optimizer.param_groups[0]["lr"].hex(), file=lrs, flush=True)
            if faulty and schedule.total_step == arguments.step:
                if arguments.fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ValueError("on purpose")
            if rank == arguments.slow and count % 40 == 0:
                time.sleep(0.1)
            apart = sign * (schedule.total_step * 37 % 11) / 8  # cancels out without rounding
            schedule.step(trainer.train_step(parallel, optimizer, batch).item() + apart)
            if rank == 0 and count % 13 == 0:
                trainer.save(checkpoint, model, optimizer, schedule)
    # With its own part of a batch each rank has its own running statistics: DDP takes rank 0's before a forward pass.
    weights = digest(model, buffers=not arguments.shards)
    write(directory / f"end-{rank}.json", {**story(schedule), "weights": weights})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("job")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shards", action="store_true")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--module", action="store_true")
    parser.add_argument("--fault", choices=["kill", "raise"])
    parser.add_argument("--rank", type=int)
    parser.add_argument("--step", type=int)
    parser.add_argument("--slow", type=int)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    try:
        main(parsed)
    except BaseException as error:
        name = f"error-{os.environ['TORCHELASTIC_RESTART_COUNT']}-{distributed.get_rank()}"
        (parsed.directory / name).write_text(type(error).__name__)
        raise
