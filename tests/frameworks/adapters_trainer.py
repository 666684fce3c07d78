"""One process of a data-parallel training, by Lightning or by Hugging Face's Trainer; started by torchrun.

    torchrun --nproc_per_node 2 adapters_trainer.py lightning|transformers ADDRESS DIRECTORY [--resume CHECKPOINT]

Every process writes DIRECTORY/rank<N>.json: the LR of each optimizer step that it has made, the schedule that it knows
and a sum over its weights.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from ranks_trainer import digest  # noqa: E402

RANK = int(os.environ["RANK"])


def with_lightning(address: str, directory: Path, resume: str | None) -> Any:
    import trainer as toy
    from lightning_trainer import Toy, make_trainer
    from lightning_trainer import _SavesByHand as SavesByHand

    from autolrs.lightning import AutoLRSCallback

    def own_batches(position: int) -> Iterator[Any]:
        for at in range(2 * position + RANK, 10**9, 2):
            yield next(toy.batches(at))

    callback = AutoLRSCallback(toy.TOTAL_STEPS, server=address, job="toy")
    saves = [] if resume else [SavesByHand(directory / "by-hand.ckpt", 0.0, False, until=300)]
    trainer = make_trainer([callback, *saves], strategy="ddp", devices=2, default_root_dir=str(directory))
    module = Toy()
    trainer.fit(module, callback.loader(own_batches, length=20), ckpt_path=resume)
    return module.lrs, callback.schedule.history, module.model


def with_transformers(address: str, directory: Path, resume: str | None) -> Any:
    from transformers import Trainer
    from transformers_trainer import TOTAL_STEPS, Text, arguments, tiny_model

    from autolrs.transformers import AutoLRSCallback

    lrs: list[float] = []

    class Recording(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            lrs.append(self.optimizer.param_groups[0]["lr"])
            return super().training_step(*args, **kwargs)

    saves = {"save_strategy": "steps", "save_steps": 300, "ignore_data_skip": True, "ddp_backend": "gloo"}
    trainer = Recording(model=tiny_model(), args=arguments(directory, **saves), train_dataset=Text())
    callback = AutoLRSCallback(trainer, TOTAL_STEPS, server=address, job="toy")
    trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume)
    return lrs, callback.schedule.history, trainer.model


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=["lightning", "transformers"])
    parser.add_argument("address")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--resume")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    run = with_lightning if chosen.framework == "lightning" else with_transformers
    lrs, history, model = run(chosen.address, chosen.directory, chosen.resume)
    schedule = [(step.total_step, step.lr) for step in history]
    result = {"lrs": lrs, "schedule": schedule, "weights": digest(model, buffers=False), "buffers": digest(model)}
    (chosen.directory / f"rank{RANK}.json").write_text(json.dumps(result))
