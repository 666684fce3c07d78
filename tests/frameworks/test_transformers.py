"""The callback of Hugging Face's Trainer in real trainings, and what must not happen during trials."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers_trainer as small
from conftest import Server
from serving import killed_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers_trainer import TOTAL_STEPS, Text, arguments, tiny_model

import autolrs.torch as torch_schedule
from autolrs import Unsupported
from autolrs.transformers import AutoLRSCallback

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


class Observed(Trainer):
    """Records the loss of every batch, and the LR with which every optimizer step was made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.batches: list[list[int]] = []

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.losses.append(loss.item())
        self.batches.append(inputs["input_ids"].flatten().tolist())
        return loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)
        step = optimizer.step

        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.lrs.append(optimizer.param_groups[0]["lr"])
            return step(*args, **kwargs)

        optimizer.step = recorded
        return optimizer


class Events(TrainerCallback):
    """At which steps it was evaluated and saved."""

    def __init__(self) -> None:
        self.evaluated: list[int] = []
        self.saved: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.evaluated.append(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved.append(state.global_step)


def test_trials_leave_no_trace_and_are_logged_apart(server: Server, tmp_path: Path) -> None:
    options = arguments(
        tmp_path,
        eval_strategy="steps",
        eval_steps=20,
        save_strategy="steps",
        save_steps=20,
        save_total_limit=1,
        load_best_model_at_end=True,
        logging_strategy="steps",
        logging_steps=1,
        report_to=["tensorboard"],
    )
    data = Text()
    events = Events()
    stopping = EarlyStoppingCallback(early_stopping_patience=10_000)
    trainer = Observed(
        model=tiny_model(), args=options, train_dataset=data, eval_dataset=Text(32), callbacks=[stopping, events]
    )
    callback = AutoLRSCallback(trainer, TOTAL_STEPS, server=server.address, job="toy")
    trainer.add_callback(callback)
    result = trainer.train()

    history = callback.schedule.history
    assert callback.schedule.done_reason == "finished"
    assert trainer.state.global_step == len(history) == TOTAL_STEPS
    assert trainer.lrs == [step.lr for step in history], "the LR in force is the directive's at every step"
    assert trainer.losses == [step.loss for step in history]
    searched = sum(step.phase == "trial" for step in history)
    assert searched > 40 and all(step.phase == "trial" for step in history[:searched])
    expected = [n for n in range(20, TOTAL_STEPS + 1, 20) if n >= searched]
    assert events.evaluated == events.saved == expected

    # Every trial saw the batches of the first one; what follows has not been trained on in that pass.
    starts = [n for n in range(searched) if n == 0 or history[n].seq != history[n - 1].seq]
    for start, end in zip(starts[1:], [*starts[2:], searched]):
        shorter = min(end - start, starts[1])
        assert trainer.batches[start : start + shorter] == trainer.batches[:shorter]

    logs = trainer.state.log_history
    losses = trainer.losses
    tried = {row["step"]: (row["search/loss"], row["search/lr"]) for row in logs if "search/loss" in row}
    kept = {row["step"]: (row["loss"], row["learning_rate"]) for row in logs if "loss" in row}
    assert tried == {n + 1: (pytest.approx(losses[n]), history[n].lr) for n in range(searched)}
    assert kept == {
        n + 1: (pytest.approx(losses[n], abs=1e-4), pytest.approx(history[n].lr, rel=1e-6))
        for n in range(searched, TOTAL_STEPS)
    }
    mean = sum(losses[searched:]) / (TOTAL_STEPS - searched)
    assert result.training_loss == pytest.approx(mean, rel=1e-4)

    scalars = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*")).parent), {"scalars": 0})
    scalars.Reload()
    assert [point.step for point in scalars.Scalars("train/search/lr")] == list(range(1, searched + 1))
    assert [point.step for point in scalars.Scalars("train/learning_rate")] == list(range(searched + 1, 801))


def test_the_schedule_is_the_plain_loops(server: Server, tmp_path: Path) -> None:
    """The Trainer's steps by hand, on the Trainer's batches, give the same schedule and the same weights to the bit."""
    options = arguments(tmp_path, max_grad_norm=0.0)
    trainer = Observed(model=tiny_model(), args=options, train_dataset=Text())
    callback = AutoLRSCallback(trainer, TOTAL_STEPS, server=server.address, job="trainer")
    trainer.add_callback(callback)
    trainer.train()

    fresh = Trainer(model=tiny_model(), args=options, train_dataset=Text())
    model, optimizer = fresh.model, fresh.create_optimizer()
    loader = fresh.get_train_dataloader()
    model.train()
    with torch_schedule.Schedule(optimizer, model, TOTAL_STEPS, server=server.address, job="plain") as schedule:
        shaped = Without(loader)  # accelerate's own state_dict works only where it was asked for
        for batch in schedule.steps(shaped):
            _, items = fresh.get_batch_samples(iter([batch]), 1, batch["input_ids"].device)
            loss = fresh.compute_loss(model, batch, num_items_in_batch=items)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step(loss)
    assert [(s.lr, s.loss) for s in callback.schedule.history] == [(s.lr, s.loss) for s in schedule.history]
    pairs = zip(trainer.model.state_dict().values(), model.state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)


class Without:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Any:
        return iter(self._loader)

    def set_epoch(self, number: int) -> None:
        self._loader.set_epoch(number)


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(server: Server, directory: Path, *options: str) -> list[str]:
    directory.mkdir(exist_ok=True)
    return [sys.executable, small.__file__, server.address, str(directory), *options]


def train(server: Server, directory: Path, *options: str) -> None:
    subprocess.run(command(server, directory, *options), env=ENVIRONMENT, check=True, timeout=120)


@pytest.mark.parametrize("phase", ["trial", "stable"])
def test_a_training_that_was_killed_goes_on_from_its_checkpoint(server: Server, tmp_path: Path, phase: str) -> None:
    train(server, tmp_path / "undisturbed", "undisturbed")

    killed = tmp_path / "killed"
    saved, _ = killed_in(phase, command(server, killed, "killed", "--pause", "0.01", "--save-trials"), env=ENVIRONMENT)
    train(server, killed, "killed", "--resume", str(killed / f"checkpoint-{saved}"))
    schedules = [json.loads((tmp_path / name / "schedule.json").read_text()) for name in ("undisturbed", "killed")]
    assert schedules[0] == schedules[1]
    reference, final = torch.load(tmp_path / "undisturbed/model.pt"), torch.load(killed / "model.pt")
    assert all(torch.equal(value, final[name]) for name, value in reference.items())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr_scheduler_type": "linear"}, 'lr_scheduler_type="linear"'),
        ({"warmup_steps": 10}, "warmup_steps=0"),
        ({"max_steps": 799}, "it has 799 steps to go and the schedule 800"),
        ({"max_steps": -1, "num_train_epochs": 2}, "it has 64 steps to go and the schedule 800"),
    ],
)
def test_what_cannot_work_is_refused(server: Server, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    trainer = Trainer(model=tiny_model(), args=arguments(tmp_path, **options), train_dataset=Text())
    with pytest.raises((Unsupported, ValueError), match=re.escape(says)):
        trainer.add_callback(AutoLRSCallback(trainer, TOTAL_STEPS, server=server.address, job="toy"))
        trainer.train()


def test_a_scheduler_of_the_users_own_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    trainer = Trainer(model=model, args=arguments(tmp_path), train_dataset=Text(), optimizers=(optimizer, scheduler))
    with pytest.raises(Unsupported, match="another LR scheduler, StepLR"):
        AutoLRSCallback(trainer, TOTAL_STEPS)


def test_accumulation_clipping_and_half_precision(server: Server, tmp_path: Path) -> None:
    """One step is one optimizer step, with the loss that its batches sum up to; 33 batches make 16 steps and a half."""
    options = arguments(tmp_path, gradient_accumulation_steps=2, bf16=True, max_grad_norm=0.1)
    trainer = Observed(model=tiny_model(), args=options, train_dataset=Text(264))
    callback = AutoLRSCallback(trainer, TOTAL_STEPS, server=server.address, job="toy")
    trainer.add_callback(callback)
    trainer.train()
    history = callback.schedule.history
    assert trainer.state.global_step == len(history) == len(trainer.lrs) == TOTAL_STEPS
    assert trainer.lrs == [step.lr for step in history]
    bounds = [(at + k, at + min(k + 2, 33)) for at in range(0, len(trainer.losses), 33) for k in range(0, 33, 2)]
    sums = [sum(trainer.losses[a:b]) for a, b in bounds][:TOTAL_STEPS]
    assert [step.loss for step in history] == [pytest.approx(value, rel=1e-5) for value in sums]
    assert 3.0 < history[0].loss < 7.0, "the mean of the batches, not their sum"
