"""A tiny language model on bytes, trained by Hugging Face's Trainer; run as a program, one that can be killed.

    python transformers_trainer.py ADDRESS DIRECTORY JOB [--pause SECONDS] [--save-trials] [--resume CHECKPOINT]

saves every 20 steps, trials included with --save-trials, and writes the schedule and the weights at its end. Nothing is
fetched: the model comes from a configuration and the text from this repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from autolrs.transformers import AutoLRSCallback

TOTAL_STEPS = 800  # scan searches from 720 on
TEXT = Path(__file__).resolve().parents[2] / "LICENSE"


class Text(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Pieces of 16 bytes."""

    def __init__(self, pieces: int = 256) -> None:
        self._bytes = (
            torch.frombuffer(bytearray(TEXT.read_bytes()[: 16 * pieces]), dtype=torch.uint8).long().view(-1, 16)
        )

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self._bytes[index], "labels": self._bytes[index]}


def tiny_model() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=128, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
    )


def arguments(directory: Path, **options: Any) -> TrainingArguments:
    quiet: dict[str, Any] = {
        "max_steps": TOTAL_STEPS,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 8,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "seed": 1,
        "use_cpu": True,
    }
    return TrainingArguments(output_dir=str(directory), **{**quiet, **options})


class _Watch(TrainerCallback):
    def __init__(self, follower: AutoLRSCallback, pause: float, save_trials: bool) -> None:
        self._follower, self._pause, self._save_trials = follower, pause, save_trials

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        time.sleep(self._pause)
        if self._save_trials and state.global_step % 20 == 0:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        print(f"{state.global_step} {self._follower.schedule.phase}", flush=True)


def main(address: str, directory: Path, job: str, pause: float, save_trials: bool, resume: str | None) -> None:
    torch.set_num_threads(1)
    saves = {"save_strategy": "steps", "save_steps": 20, "ignore_data_skip": True, "max_steps": TOTAL_STEPS + 100}
    trainer = Trainer(model=tiny_model(), args=arguments(directory, **saves), train_dataset=Text())
    callback = AutoLRSCallback(trainer, TOTAL_STEPS, server=address, job=job)
    trainer.add_callback(callback)
    trainer.add_callback(_Watch(callback, pause, save_trials))
    trainer.train(resume_from_checkpoint=resume)
    torch.save(trainer.model.state_dict(), directory / "model.pt")
    schedule = [(step.total_step, step.lr) for step in callback.schedule.history]
    (directory / "schedule.json").write_text(json.dumps(schedule))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("directory", type=Path)
    parser.add_argument("job")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--save-trials", action="store_true")
    parser.add_argument("--resume")
    main(**vars(parser.parse_args(sys.argv[1:])))
