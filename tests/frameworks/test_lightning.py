"""The Lightning callback in real fits: the plain loop's schedule to the bit, and what must not happen during trials."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import lightning_trainer
import pytest
import torch
import trainer as toy
from conftest import Server
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning_trainer import Toy, make_trainer, validation_batches
from serving import killed_in

from autolrs import Unsupported
from autolrs.lightning import AutoLRSCallback

pytestmark = pytest.mark.filterwarnings("ignore::Warning")


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_fit_is_the_plain_loop_and_trials_leave_no_trace(server: Server, tmp_path: Path) -> None:
    reference, reference_model = toy.undisturbed(server.address, "plain")
    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy", validation_loss="val_loss")
    checkpoint = ModelCheckpoint(
        dirpath=tmp_path / "checkpoints", filename="{step}", monitor="train_loss", save_top_k=-1, every_n_train_steps=7
    )
    # A trial's loss that is not finite, in an epoch's average or not, would end the training.
    stopping = EarlyStopping("train_loss_epoch", patience=10_000, check_on_train_epoch_end=True)
    log = CSVLogger(tmp_path, name="log", version="0")
    trainer = make_trainer(
        [stopping, checkpoint, callback, LearningRateMonitor()], logger=log, enable_checkpointing=True
    )
    module = Toy()
    trainer.fit(module, callback.loader(toy.batches, length=20), validation_batches())

    schedule = callback.schedule
    assert schedule.done_reason == "finished"
    assert toy.lrs(schedule) == reference
    assert same_weights(module.model, reference_model)
    assert module.lrs == [lr for _, lr in reference], "the LR in force is the directive's at every step"
    assert trainer.global_step == len(reference)
    assert trainer.limit_val_batches == 1.0 and "on_train_batch_end" not in vars(checkpoint)

    trial = [step.phase == "trial" for step in schedule.history]
    searched = sum(trial)
    assert trial == [True] * searched + [False] * (len(trial) - searched) and searched > 40
    saved = sorted(int(path.stem.split("=")[1]) for path in (tmp_path / "checkpoints").glob("*.ckpt"))
    assert saved == [n for n in range(7, len(trial) + 1, 7) if n > searched]
    assert module.validated_at[0] > searched and module.validated_at[:-1] == list(
        range(searched + 20 - searched % 20, len(trial), 20)
    )

    with open(Path(log.log_dir) / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    kept = {int(row["step"]): float(row["train_loss_step"]) for row in rows if row["train_loss_step"]}
    tried = {int(row["step"]): float(row["search/train_loss_step"]) for row in rows if row["search/train_loss_step"]}
    losses = [step.loss for step in schedule.history]
    assert tried == {n: pytest.approx(losses[n]) for n in range(searched)}
    assert kept == {n: pytest.approx(losses[n]) for n in range(searched, len(trial))}
    assert {int(row["step"]): float(row["search/lr"]) for row in rows if row["search/lr"]} == dict(reference[:searched])
    assert {int(row["step"]): float(row["autolrs/lr"]) for row in rows if row["autolrs/lr"]} == dict(
        reference[searched:]
    )
    assert {row["search/lr-SGD/pg1"] for row in rows if row["search/lr-SGD/pg1"]} <= {str(lr) for _, lr in reference}
    epoch = {int(row["step"]): float(row["train_loss_epoch"]) for row in rows if row["train_loss_epoch"]}
    first = min(epoch)
    assert epoch[first] == pytest.approx(sum(losses[searched : first + 1]) / (first + 1 - searched))


@pytest.mark.parametrize("phase", ["trial", "stable"])
def test_a_fit_that_was_killed_goes_on_from_its_checkpoint(server: Server, tmp_path: Path, phase: str) -> None:
    reference, reference_model = toy.undisturbed(server.address, "plain")
    command = [sys.executable, lightning_trainer.__file__, server.address, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed_in(phase, [*command, "--pause", "0.002"], env=environment)
    subprocess.run([*command, "--resume"], env=environment, check=True, timeout=120)
    assert [tuple(step) for step in json.loads((tmp_path / "schedule.json").read_text())] == reference
    final = torch.load(tmp_path / "model.pt")
    assert all(torch.equal(value, final[name]) for name, value in reference_model.state_dict().items())


class Scheduled(Toy):
    def configure_optimizers(self) -> Any:
        return [self._optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, 100)]


class Manual(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        (Scheduled, {}, "another LR scheduler, CosineAnnealingLR"),
        (Manual, {}, "manual optimization"),
        (
            Toy,
            {"callbacks": [StochasticWeightAveraging(1e-2, swa_epoch_start=1)]},
            "StochasticWeightAveraging sets an LR of its own",
        ),
        (Toy, {"max_steps": 799}, "stop 1 steps before the schedule's end: it has 799"),
        (Toy, {"max_epochs": 3}, "it has 60 steps to go and the schedule 800"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    server: Server, tmp_path: Path, module: type[Toy], options: dict[str, Any], says: str
) -> None:
    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy")
    options = {**options, "callbacks": [*options.get("callbacks", []), callback]}
    with pytest.raises((Unsupported, ValueError), match=re.escape(says)):
        make_trainer(default_root_dir=tmp_path, **options).fit(module(), callback.loader(toy.batches, length=20))


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="'lr_rnage' is none of them"):
        AutoLRSCallback(100, lr_rnage=(0.1, 1.0))


def test_accumulation_clipping_and_half_precision(server: Server, tmp_path: Path) -> None:
    """One step is one optimizer step, with the mean loss of its batches; also in the short window at an epoch's end."""
    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy")
    averages = EMAWeightAveraging()
    trainer = make_trainer(
        [callback, averages],
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        gradient_clip_val=0.5,
        default_root_dir=tmp_path,
    )
    module = Recording()
    trainer.fit(module, callback.loader(toy.batches, length=5))
    history = callback.schedule.history
    assert trainer.global_step == len(history) == toy.TOTAL_STEPS and history[0].phase == "trial"
    assert module.lrs == [step.lr for step in history]
    windows = [module.losses[at : at + size] for at, size in window_bounds(len(module.losses))][: toy.TOTAL_STEPS]
    assert [step.loss for step in history] == [pytest.approx(sum(window) / len(window)) for window in windows]
    # The averaged weights hold no step of a trial.
    kept = sum(step.phase != "trial" for step in history)
    assert averages._average_model is not None
    assert int(averages._average_model.n_averaged) == kept


class Recording(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.item())
        return loss


def window_bounds(batches: int) -> list[tuple[int, int]]:
    """Where the accumulated windows of epochs of five batches start, and their sizes: 2, 2, 1."""
    return [(epoch + at, size) for epoch in range(0, batches, 5) for at, size in ((0, 2), (2, 2), (4, 1))]


def test_the_gradient_scaler_is_put_back(server: Server, tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=9)
    scales: list[float] = []

    class Watch(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            scales.append(scaler.get_scale())

    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    trainer = make_trainer([callback, Watch()], plugins=[plugin], default_root_dir=tmp_path)
    trainer.fit(Toy(), callback.loader(toy.batches, length=20))
    history = callback.schedule.history
    starts = [
        n
        for n in range(toy.TOTAL_STEPS)
        if n == 0 or history[n].seq != history[n - 1].seq and history[n - 1].phase == "trial"
    ]
    assert len(starts) > 2 and [scales[n] for n in starts] == [1024.0] * len(starts)
    assert max(scales) > 1024.0


def test_the_lr_finder_runs_on_its_own_and_gives_the_first_lr(server: Server, tmp_path: Path) -> None:
    """It fits for a while with the trainer's callbacks put away; its suggestion is the optimizer's own LR then."""
    callback = AutoLRSCallback(100, server=server.address, job="toy", policy="constant")
    finder = LearningRateFinder(min_lr=1e-3, max_lr=1e-1, num_training_steps=20, early_stop_threshold=None)
    module = Adaptable()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(toy.X, toy.Y), batch_size=32)
    trainer = make_trainer([finder, callback], default_root_dir=tmp_path)
    trainer.fit(module, loader)
    suggested = finder.optimal_lr.suggestion()
    assert suggested is not None and module.learning_rate == suggested
    assert {step.lr for step in callback.schedule.history} == {suggested}
    assert len(callback.schedule.history) == trainer.global_step == 100


class Adaptable(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.learning_rate = 0.01

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


def test_a_training_step_without_a_loss_is_a_diverged_trial(server: Server, tmp_path: Path) -> None:
    """And an LR that somebody else sets is not in force at any step."""

    class Checks(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self._optimizer.param_groups[0]["lr"] = 77.0
            loss = super().training_step(batch, batch_idx)
            return loss if loss < 3.0 else None

    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy", lr_range=(0.01, 1000.0))
    trainer = make_trainer([callback], default_root_dir=tmp_path)
    module = Checks()
    trainer.fit(module, callback.loader(toy.batches, length=20))
    history = callback.schedule.history
    diverged = [step for step in history if step.loss != step.loss]
    assert diverged and {step.phase for step in diverged} == {"trial"}
    assert callback.schedule.done_reason == "finished"
    assert module.lrs == [step.lr for step in history]


def test_steps_that_never_have_a_loss_again_end_the_training(server: Server, tmp_path: Path) -> None:
    """A few are left out; what stays without a loss is broken, and the guards have given up on it."""

    class Breaks(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if self.trainer.global_step in range(200, 210) or self.trainer.global_step >= 400 else loss

    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=server.address, job="toy")
    make_trainer([callback], default_root_dir=tmp_path).fit(Breaks(), callback.loader(toy.batches, length=20))
    schedule = callback.schedule
    assert (schedule.done_reason or "").startswith("failed")
    losses = [step.loss for step in schedule.history]
    first = next(n for n, loss in enumerate(losses) if loss != loss)
    assert first == 400 - 10, "ten steps were left out before, without harm"


def test_pytorch_lightning_is_served_too(server: Server, tmp_path: Path) -> None:
    """In a process of its own, where `lightning` is not imported."""
    script = f"""
import sys, pytorch_lightning as pl, torch
sys.path.insert(0, {str(Path(toy.__file__).parent)!r})
import trainer as toy
from autolrs.lightning import AutoLRSCallback

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.optimizer = toy.make()
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])
    def configure_optimizers(self):
        return self.optimizer

callback = AutoLRSCallback(800, server={server.address!r}, job="toy")
checkpoint = pl.callbacks.ModelCheckpoint({str(tmp_path)!r}, "{{step}}", save_top_k=-1, every_n_train_steps=20)
trainer = pl.Trainer(accelerator="cpu", max_epochs=-1, callbacks=[checkpoint, callback], logger=False)
trainer.fit(Module(), callback.loader(toy.batches, length=20))
assert "lightning" not in sys.modules and isinstance(callback, pl.Callback)
assert callback.schedule.done_reason == "finished" and trainer.global_step == 800
print(sum(step.phase != "trial" for step in callback.schedule.history[19::20]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("step=*.ckpt"))) == int(done.stdout.splitlines()[-1])
