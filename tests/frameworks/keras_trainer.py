"""A small real `model.fit`; as a program, one that can be killed. KERAS_BACKEND says on what.

    python keras_trainer.py ADDRESS JOB DIRECTORY [--pause SECONDS] [--options JSON]

keeps a backup in DIRECTORY and goes on from it if it is there; at the end writes DIRECTORY/result.pickle.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import keras  # noqa: E402
from numpy_trainer import TOTAL_STEPS, X, Y, batches  # noqa: E402

import autolrs.keras as autolrs  # noqa: E402

STEPS_PER_EPOCH = 30  # not a divisor of a trial's steps: epochs end inside of trials


def make(lr: Any = 0.01) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.1)]
    model = keras.Sequential([keras.layers.Input((16,)), *layers, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(lr, momentum=0.9), loss=loss, metrics=["accuracy"])
    return model


class Recorder(keras.callbacks.Callback):
    """What a user's own callback sees at its place."""

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__()
        self.batches = 0
        self.epochs: list[list[str]] = []
        self.pause = pause

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        time.sleep(self.pause)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(sorted(logs))


def weights(model: keras.Model) -> list[bytes]:
    return [keras.ops.convert_to_numpy(each.value).tobytes() for each in [*model.variables, *model.optimizer.variables]]


def main(address: str, job: str, directory: Path, pause: float, options: str, validate: bool, result: str) -> None:
    count_compilations: list[str] = []
    if keras.backend.backend() == "jax":
        import jax

        jax.monitoring.register_event_duration_secs_listener(
            lambda event, duration, **details: (
                count_compilations.append(str(details)) if event.endswith("backend_compile_duration") else None
            )
        )
    model = make()
    inside, outside = Recorder(), Recorder(pause)
    known: dict[str, Any] = {"server": address, "job": job, "callbacks": [inside], **json.loads(options)}
    measured: list[float] = []

    def held_out() -> float:
        measured.append(model.evaluate(X, Y, verbose=0, return_dict=True)["loss"])
        return measured[-1]

    if validate:
        known["validate"] = held_out
    schedule = autolrs.Schedule(model, TOTAL_STEPS, **known)
    ran: list[float] = []
    starts: list[list[bytes]] = []

    class Watch(keras.callbacks.Callback):
        """The LR variable and the weights that a step really starts with."""

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            ran.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate.value)))
            starts.append(weights(self.model))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch % 10 == 0:
                print(schedule.total_step, schedule.phase, flush=True)

    history = model.fit(
        schedule.steps(batches),
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=60,
        verbose=0,
        callbacks=[schedule, Watch(), outside],
    )
    steps = [(step.total_step, step.lr, step.loss, step.phase, step.seq, step.kind) for step in schedule.history]
    firsts: list[bytes] = []
    if len(starts) == len(steps):
        seqs = [step[4] for step in steps]
        changes = [i for i in range(len(seqs)) if i == 0 or seqs[i] != seqs[i - 1]]
        firsts = [b"".join(starts[i][: len(model.variables)]) for i in changes if steps[i][3] in ("trial", "warmup")]
    state = {
        "steps": steps,
        "ran": ran,
        "firsts": len(firsts),
        "different_firsts": len(set(firsts)),
        "weights": weights(model),
        "done": schedule.done_reason,
        "inside": (inside.batches, inside.epochs),
        "outside": (outside.batches, outside.epochs),
        "history": history.history,
        "measured": measured,
        "compilations": sum("train_step" in each for each in count_compilations),
        "loss": float(model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]),
    }
    (directory / result).write_bytes(pickle.dumps(state))
    schedule.close()


if __name__ == "__main__":
    np.seterr(all="ignore")
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("job")
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--pause", type=float, default=0.0)
    arguments.add_argument("--options", default="{}")
    arguments.add_argument("--validate", action="store_true")
    arguments.add_argument("--result", default="result.pickle")
    main(**vars(arguments.parse_args()))
