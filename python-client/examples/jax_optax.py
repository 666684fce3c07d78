"""A JAX training with optax that hands its learning rate to the service: one compilation, whatever the learning rate.

Start the server first (`autolrs serve`), then `python jax_optax.py [total steps]`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import digits
import jax
import jax.numpy as jnp
import optax

import autolrs.jax as autolrs

train, test = digits.load()
optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)


def logits(params: Any, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["hidden"] + params["bias"]) @ params["out"]


def loss_of(params: Any, batch: Any, dropout: jax.Array) -> jax.Array:
    x = batch[0] * jax.random.bernoulli(dropout, 0.9, batch[0].shape)
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), batch[1]).mean()


@partial(jax.jit, donate_argnums=0)
def train_step(state: Any, batch: Any) -> Any:
    key, dropout = jax.random.split(state["key"])
    loss, gradients = jax.value_and_grad(loss_of)(state["params"], batch, dropout)
    updates, optimizer_state = optimizer.update(gradients, state["optimizer"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    return {"params": params, "optimizer": optimizer_state, "key": key}, loss


one, two, key = jax.random.split(jax.random.key(0), 3)
params = {
    "hidden": jax.random.normal(one, (64, 256)) / 8,
    "bias": jnp.zeros(256),
    "out": jax.random.normal(two, (256, 10)) / 16,
}
state = {"params": params, "optimizer": optimizer.init(params), "key": key}

total_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
with autolrs.Schedule(state, total_steps, lr_range=(1e-6, 0.3)) as schedule:
    state = schedule.state
    for batch in schedule.steps(digits.Batches(train)):
        state, loss = train_step(state, batch)
        state = schedule.step(state, loss)
        if schedule.total_step % 250 == 0:
            print(f"{schedule.total_step:5d} {schedule.phase:8s} LR {schedule.lr:<9.3g} loss {float(loss):.3f}")

accuracy = (logits(state["params"], test[0]).argmax(1) == test[1]).mean()
print(f"digits: test accuracy {accuracy:.4f}; compilations of the step: {train_step._cache_size()}")
