"""The small training of tests/python/trainer.py as a LightningModule; run as a program, one that can be killed.

    python lightning_trainer.py ADDRESS DIRECTORY [--pause SECONDS] [--resume]

saves DIRECTORY/by-hand.ckpt at its start and every 20 steps, trials included, and writes the schedule and the weights
at its end. With --resume it goes on from that file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import trainer as toy  # noqa: E402

from autolrs.lightning import AutoLRSCallback  # noqa: E402


class Toy(L.LightningModule):
    """Records the LR of every optimizer step."""

    def __init__(self, kind: str = "sgd") -> None:
        super().__init__()
        self.model, self._optimizer = toy.make(kind)
        self.lrs: list[float] = []
        self.validated_at: list[int] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if not self.trainer.sanity_checking and batch_idx == 0:
            self.validated_at.append(self.trainer.global_step)
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.lrs.append(float(optimizer.param_groups[0]["lr"]))

    def configure_optimizers(self) -> Any:
        return self._optimizer


def validation_batches() -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(toy.X, toy.Y), batch_size=640)


def make_trainer(callbacks: list[Any], **options: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": -1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "log_every_n_steps": 1,
    }
    return L.Trainer(callbacks=callbacks, **{**quiet, **options})


class _SavesByHand(L.Callback):
    def __init__(self, path: Path, pause: float, save_at_start: bool, until: int | None = None) -> None:
        self._path, self._pause, self._save_at_start, self._until = path, pause, save_at_start, until

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._save_at_start:
            trainer.save_checkpoint(self._path)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        schedule = next(c for c in trainer.callbacks if isinstance(c, AutoLRSCallback)).schedule
        time.sleep(self._pause)
        if trainer.global_step % 20 == 0 and (self._until is None or trainer.global_step <= self._until):
            trainer.save_checkpoint(self._path)
            print(f"{schedule.total_step} {schedule.phase}", flush=True)


def main(address: str, directory: Path, pause: float, resume: bool) -> None:
    torch.set_num_threads(1)
    path = directory / "by-hand.ckpt"
    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=address, job="toy")
    trainer = make_trainer([callback, _SavesByHand(path, pause, not resume)], default_root_dir=str(directory))
    module = Toy()
    trainer.fit(module, callback.loader(toy.batches, length=20), ckpt_path=str(path) if resume else None)
    torch.save(module.model.state_dict(), directory / "model.pt")
    (directory / "schedule.json").write_text(json.dumps(toy.lrs(callback.schedule)))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--pause", type=float, default=0.0)
    arguments.add_argument("--resume", action="store_true")
    main(**vars(arguments.parse_args()))
