"""`autolrs.keras`: `model.fit` on the JAX and PyTorch backends of Keras, on the real server."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server
from numpy_trainer import TOTAL_STEPS
from serving import killed_in

TRAINER = Path(__file__).with_name("keras_trainer.py")
BACKENDS = ["jax", "torch"]


def environment(backend: str) -> dict[str, str]:
    return {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run(server: Server, backend: str, directory: Path, job: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(TRAINER), server.address, job, str(directory), "--result", job, *arguments]
    done = subprocess.run(command, env=environment(backend), capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = pickle.loads((directory / job).read_bytes())
    return result


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit(server: Server, tmp_path: Path, backend: str) -> None:
    """The LR is in force in every step, nothing is compiled twice, trials leave no trace, and validation neither."""
    plain = run(server, backend, tmp_path, "plain")
    steps = plain["steps"]
    assert plain["done"] == "finished" and len(steps) == TOTAL_STEPS
    assert plain["ran"] == [np.float32(lr) for _, lr, *_ in steps]
    assert len(set(plain["ran"])) > TOTAL_STEPS // 3
    assert plain["compilations"] == (1 if backend == "jax" else 0)
    assert plain["firsts"] >= 4 and plain["different_firsts"] == 1
    assert plain["loss"] < 0.8 * steps[0][2]

    trial_steps = sum(phase == "trial" for *_, phase, _, _ in steps)
    batches, epochs = plain["inside"]
    assert trial_steps > 60 and batches == TOTAL_STEPS - trial_steps
    assert all("loss" in logs and "learning_rate" in logs for logs in epochs)
    batches, epochs = plain["outside"]
    assert batches == TOTAL_STEPS and len(epochs) > len(plain["inside"][1])
    assert "search/loss" in epochs[0] and "loss" not in epochs[0]
    assert all(np.isfinite(plain["history"]["loss"]))

    # The mean over an epoch, as Keras shows it, is that of the losses of its batches.
    last = [loss for _, _, loss, *_ in steps[780:]]
    assert np.mean(last) == pytest.approx(plain["history"]["loss"][-1], rel=1e-5)

    # The epoch in which the search ended: of what was put back only the weights are left, not the losses of trials.
    first = next(i for i, step in enumerate(steps) if step[3] == "warmup")
    assert first % 30 and trial_steps == first
    kept = [loss for _, _, loss, *_ in steps[first : first + 30 - first % 30]]
    assert np.mean(kept) == pytest.approx(plain["history"]["loss"][0], rel=1e-5)

    with_validation = run(server, backend, tmp_path, "validated", "--validate")
    assert len(with_validation["measured"]) >= 4
    assert [step[:3] for step in with_validation["steps"]] == [step[:3] for step in steps]
    assert with_validation["weights"] == plain["weights"]
    assert with_validation["history"] == plain["history"]


@pytest.mark.parametrize(("backend", "phase"), [("jax", "stable"), ("torch", "trial")])
def test_a_killed_fit_goes_on_where_it_was(server: Server, tmp_path: Path, backend: str, phase: str) -> None:
    reference = run(server, backend, tmp_path, "undisturbed")
    options = json.dumps({"backup": str(tmp_path / "backup"), "backup_every": 20})
    command = [sys.executable, str(TRAINER), server.address, "toy", str(tmp_path), "--options", options]
    command += ["--pause", "0.01"]
    killed_in(phase, command, (tmp_path / "backup").exists, env=environment(backend))
    result = run(server, backend, tmp_path, "toy", "--options", options)
    assert [step[:2] for step in result["steps"]] == [step[:2] for step in reference["steps"]]
    assert result["weights"] == reference["weights"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_refused_or_said(server: Server, backend: str) -> None:
    command = [sys.executable, "-c", REFUSED, server.address]
    done = subprocess.run(command, env=environment(backend), capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]


REFUSED = f"""
import sys
sys.path.insert(0, {str(TRAINER.parent)!r})
import keras, keras_trainer, pytest
from keras import callbacks
import autolrs, autolrs.keras
from keras_trainer import X, Y, make

def schedule(model, **options):
    return autolrs.keras.Schedule(model, 800, server=sys.argv[1], restart=True, takeover=True, job="toy", **options)

with pytest.raises(autolrs.Unsupported, match="LearningRateSchedule"):
    schedule(make(keras.optimizers.schedules.CosineDecay(0.1, 100)))
model = make()
with pytest.raises(autolrs.Unsupported, match="ReduceLROnPlateau"):
    schedule(model, callbacks=[callbacks.ReduceLROnPlateau()])
with pytest.raises(autolrs.Error, match="Build and compile"):
    schedule(keras.Sequential([keras.layers.Dense(2)]))
if keras.backend.backend() == "jax":
    model.compile(keras.optimizers.SGD(0.01), loss="mse", steps_per_execution=4)
    with pytest.raises(autolrs.Unsupported, match="steps_per_execution"):
        schedule(model)
for other in (callbacks.LearningRateScheduler(lambda epoch: 0.5), callbacks.EarlyStopping("loss")):
    model = make()
    one = schedule(model)
    with pytest.raises(autolrs.Unsupported, match=type(other).__name__):
        model.fit(X, Y, verbose=0, callbacks=[one, other])
    one.close()

class Meddler(callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            self.model.optimizer.learning_rate = 0.5

model = make()
one = schedule(model, policy="constant")
with pytest.warns(autolrs.AutoLRSWarning) as said:
    model.fit(X, Y, batch_size=32, epochs=4, verbose=0, callbacks=[one, Meddler()])
said = [each for each in said if issubclass(each.category, autolrs.AutoLRSWarning)]
assert len(said) == 2 and "0.5" in str(said[0].message) and "80 steps" in str(said[1].message)
assert abs(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate.value)) - 0.01) < 1e-6
one.close()
"""
