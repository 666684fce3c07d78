"""What a schedule does on every rank besides training; run by torchrun.

    torchrun --nproc_per_node 2 ranks_checks.py ADDRESS SERVER_PID DIRECTORY

Every rank writes DIRECTORY/checks-RANK.json: what it saw, by check.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ranks_trainer
import torch
import trainer
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import autolrs.torch as autolrs

ADDRESS, SERVER_PID = sys.argv[1], int(sys.argv[2])


def open_schedule(job: str | None, total_steps: int | None = 60, **options: Any) -> tuple[autolrs.Schedule, Any, Any]:
    model, optimizer = trainer.make()
    parallel = DistributedDataParallel(model)
    options = {"server": ADDRESS, "policy": "constant", **options}
    return autolrs.Schedule(optimizer, parallel, total_steps, job=job, **options), parallel, optimizer


def train(schedule: autolrs.Schedule, model: Any, optimizer: Any, loader: Any = trainer.batches) -> None:
    for batch in schedule.steps(loader):
        schedule.step(trainer.train_step(model, optimizer, batch))


def error_of(call: Callable[[], Any]) -> tuple[str, str]:
    try:
        call()
    except BaseException as error:
        return type(error).__name__, str(error)
    return "", ""


def names_and_errors(rank: int) -> Any:
    """The name made of script and time is rank 0's; its errors are raised everywhere, with what they carry."""
    time.sleep(0.002 * rank)
    schedule, model, optimizer = open_schedule(None)
    train(schedule, model, optimizer)
    schedule.close()
    options: dict[str, Any] = {"policy": "scan", "lr_range": (1.0, 0.1)}
    try:
        open_schedule("invalid", **options)
        raise AssertionError("it was taken")
    except autolrs.InvalidSpec as error:
        violations = error.violations
    assert violations
    again = open_schedule(schedule.job)[0]
    unreachable = error_of(lambda: open_schedule("x", server="127.0.0.1:9", connect_timeout=0.2))
    finished = error_of(lambda: again.step(1.0))
    assert (unreachable[0], finished[0]) == ("ServerUnavailable", "JobFinished")
    return [schedule.job, violations, unreachable, finished]


def mean_losses(rank: int) -> Any:
    """NaN on any rank is NaN; one that diverges on one rank stops the trial everywhere, and the weights come back."""
    schedule, model, optimizer = open_schedule("nan", trainer.TOTAL_STEPS, policy="scan")
    with schedule:
        for batch in schedule.steps(trainer.batches):
            loss = trainer.train_step(model, optimizer, batch).item()
            last = distributed.get_world_size() - 1
            schedule.step(math.nan if rank == last and schedule.total_step == 3 else loss + rank)
            if schedule.total_step == 40:
                break
    steps = list(schedule.history)
    assert math.isnan(steps[3].loss) and not math.isnan(steps[2].loss)
    first = [step for step in steps if step.seq == steps[3].seq]
    assert len(first) == 16, "the first switch point at least 8 steps later"
    return [[(step.seq, step.lr.hex(), step.loss.hex()) for step in steps], ranks_trainer.digest(model)]


def validation(rank: int) -> Any:
    """Asked for on every rank; the mean counts, and an error of one is an error of all."""
    asked: list[int] = []

    def measure() -> float:
        asked.append(schedule.total_step)
        return float(rank)

    schedule, model, optimizer = open_schedule("validated", 50, validate=measure)
    with schedule:
        train(schedule, model, optimizer)

    def fail() -> float:
        if rank == 0:
            raise KeyError("on purpose")
        return 1.0

    failing, model, optimizer = open_schedule("not-validated", 50, validate=fail)
    kind, message = error_of(lambda: train(failing, model, optimizer))
    failing.close()
    assert kind == ("KeyError" if rank == 0 else "Error") and asked
    assert rank == 0 or "another rank" in message
    return asked


def guarded(rank: int) -> Any:
    """An error of a trial is raised: the others may wait for this rank's gradients."""
    schedule, model, optimizer = open_schedule("guarded", trainer.TOTAL_STEPS, policy="scan")

    def broken() -> None:
        for batch in schedule.steps(trainer.batches):
            with schedule.guarded():
                trainer.train_step(model, optimizer, batch)
                raise FloatingPointError("nan")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raised = error_of(broken)
    schedule.close()
    assert raised == ("FloatingPointError", "nan")
    assert any("guarded() can't" in str(warning.message) for warning in caught)
    return raised


def replay(rank: int) -> Any:
    """If one rank can't keep its batches, none gives them again."""
    seen: dict[str, Any] = {}
    for name, limit in [("all", 256.0), ("none", 256.0 if rank == 0 else 0.01)]:
        schedule, model, optimizer = open_schedule(f"replay-{name}", trainer.TOTAL_STEPS, policy="scan")
        firsts: dict[int, str] = {}
        loader = [batch for _, batch in zip(range(300), trainer.batches(0))]
        with warnings.catch_warnings(), schedule:
            warnings.simplefilter("ignore")
            for batch in schedule.steps(loader, replay_mb=limit):
                seq = schedule.history[-1].seq if len(schedule.history) else 0
                schedule.step(trainer.train_step(model, optimizer, batch))
                seq = schedule.history[-1].seq
                firsts.setdefault(seq, batch[0][0, 0].item().hex())
                if schedule.phase == "warmup":
                    break
        seen[name] = list(firsts.values())
    assert len(set(seen["all"])) == 1 and len(seen["all"]) > 2
    assert len(set(seen["none"])) == len(seen["none"])
    return seen


def finish(rank: int) -> Any:
    """Called on every rank; the run ends at the same step."""
    schedule, model, optimizer = open_schedule("open", None, policy="scan", expected_steps=800)
    with schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
            if schedule.phase == "stable":
                schedule.finish(16)
                break
        train(schedule, model, optimizer)
    assert schedule.done_reason == "finished"
    return ranks_trainer.story(schedule)


def checkpoints(rank: int) -> Any:
    """Rank 0's serves all, the others' none; a rank without one is an error everywhere."""
    schedule, model, optimizer = open_schedule("saved")
    with schedule:
        for batch in schedule.steps(trainer.batches):
            schedule.step(trainer.train_step(model, optimizer, batch))
            if schedule.total_step == 29:
                break
        saved = [schedule.state_dict()]
    own = saved[0]
    distributed.broadcast_object_list(saved, src=0)
    mixed = error_of(lambda: open_schedule("saved", resume=saved[0] if rank == 0 else None))
    others = error_of(lambda: schedule.load_state_dict(own)) if rank else ("CheckpointMismatch", "")
    assert mixed[0] == others[0] == "CheckpointMismatch"
    resumed, model, optimizer = open_schedule("saved", resume=saved[0])
    assert resumed.total_step == len(resumed.history) == 29
    assert all(step.loss == step.loss for step in resumed.history)
    with resumed:
        train(resumed, model, optimizer)
    return [mixed, ranks_trainer.story(resumed)]


def interrupted(rank: int) -> Any:
    """Ctrl-C on rank 0, which waits for a frozen server, is one on every rank; then the same loop goes on."""
    schedule, model, optimizer = open_schedule("interrupted", 100)

    def interrupt() -> None:
        while not schedule._waiting:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if rank == 0:
        os.kill(SERVER_PID, signal.SIGSTOP)
        threading.Thread(target=interrupt, daemon=True).start()
    kind, _ = error_of(lambda: train(schedule, model, optimizer))
    if rank == 0:
        os.kill(SERVER_PID, signal.SIGCONT)
    assert kind == "KeyboardInterrupt"
    with schedule:
        train(schedule, model, optimizer)
    return [kind, ranks_trainer.story(schedule)]


CHECKS = [names_and_errors, mean_losses, validation, guarded, replay, finish, checkpoints, interrupted]


def main() -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    seen = {}
    for check in CHECKS:
        print(f"rank {rank}: {check.__name__}", flush=True)
        seen[check.__name__] = check(rank)
    ranks_trainer.write(Path(sys.argv[3]) / f"checks-{rank}.json", seen)


if __name__ == "__main__":
    main()
