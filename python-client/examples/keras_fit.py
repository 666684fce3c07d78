"""`model.fit` with a callback that hands the learning rate to the service, on any backend of Keras.

Start the server first (`autolrs serve`), then `KERAS_BACKEND=jax python keras_fit.py [total steps]` (or torch).
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import digits
import keras

import autolrs.keras as autolrs

total_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
train, test = digits.load()
loader = digits.Batches(train)

keras.utils.set_random_seed(0)
layers = [keras.layers.Dense(256, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(10)]
model = keras.Sequential([keras.layers.Input((64,)), *layers])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"])

schedule = autolrs.Schedule(model, total_steps)
history = model.fit(
    schedule.steps(loader),
    steps_per_epoch=250,
    epochs=-(-total_steps // 250),
    validation_data=test,
    callbacks=[schedule],
    verbose=2,
)
schedule.close()
accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
print(f"digits: test accuracy {accuracy:.4f}; {schedule.done_reason} after {schedule.total_step} steps")
