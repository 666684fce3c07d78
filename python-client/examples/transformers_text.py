"""A small language model on bytes, trained by Hugging Face's Trainer with the service's learning rate.

Start the server first (`autolrs serve`), then `python transformers_text.py [total steps]`. Nothing is fetched: the
model comes from a configuration, the text is the source of Python's own library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from autolrs.transformers import AutoLRSCallback

torch.set_num_threads(1)
total_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 800
LENGTH = 64


class Pieces(torch.utils.data.Dataset):
    """Consecutive pieces of a text in bytes."""

    def __init__(self, text: bytes) -> None:
        whole = len(text) // LENGTH * LENGTH
        self._pieces = torch.frombuffer(bytearray(text[:whole]), dtype=torch.uint8).long().view(-1, LENGTH)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._pieces[index], "labels": self._pieces[index]}


sources = sorted(Path(sys.modules["os"].__file__ or "").parent.glob("*.py"))
text = b"".join(path.read_bytes() for path in sources)[:2_000_000]
train, test = Pieces(text[:-100_000]), Pieces(text[-100_000:])

torch.manual_seed(0)
config = GPT2Config(vocab_size=256, n_positions=LENGTH, n_embd=64, n_layer=2, n_head=4)
arguments = TrainingArguments(
    "transformers_out",
    max_steps=total_steps,
    learning_rate=1e-3,
    lr_scheduler_type="constant",
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    eval_strategy="steps",
    eval_steps=total_steps // 3,
    logging_steps=total_steps // 15,
    save_strategy="no",
    report_to=["tensorboard"],
    disable_tqdm=True,
    use_cpu=True,
)
trainer = Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=train, eval_dataset=test)
callback = AutoLRSCallback(trainer, total_steps=total_steps)
trainer.add_callback(callback)
trainer.train()

history = callback.schedule.history
searched = sum(step.phase == "trial" for step in history)
print(f"{len(history)} steps, {searched} of them search; highest LR {max(s.lr for s in history[searched:]):.3g}")
print(f"bits per byte on other text: {trainer.evaluate()['eval_loss'] / 0.6931:.3f}")
