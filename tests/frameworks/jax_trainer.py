"""A small real training in JAX and optax that is the same to the bit every time; as a program, one that can be killed.

    python jax_trainer.py ADDRESS JOB DIRECTORY [--pause SECONDS]

writes DIRECTORY/checkpoint.pickle at its start and every 20 steps, goes on from it if it is there, and at the end
writes DIRECTORY/result.pickle: (total_step, lr) of every step that the job is made of, and the parameters.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from numpy_trainer import TOTAL_STEPS, X, Y, batches  # noqa: E402

import autolrs.jax as autolrs  # noqa: E402

LR_RANGE = (1e-4, 10.0)
State = dict[str, Any]

optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.01, momentum=0.9)


def make() -> State:
    """Parameters, the optimizer's state and a key: everything that a step changes."""
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        "hidden": 0.3 * jax.random.normal(keys[0], (16, 32)),
        "out": 0.3 * jax.random.normal(keys[1], (32, 3)),
    }
    return {"params": params, "optimizer": optimizer.init(params), "key": jax.random.key(3)}


def loss_of(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    scores = jnp.tanh(x @ params["hidden"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()


@partial(jax.jit, donate_argnums=0)
def train_step(state: State, batch: Any) -> tuple[State, jax.Array]:
    key, noise = jax.random.split(state["key"])
    x = batch[0] + 0.1 * jax.random.normal(noise, batch[0].shape)
    loss, gradients = jax.value_and_grad(loss_of)(state["params"], x, batch[1])
    updates, moments = optimizer.update(gradients, state["optimizer"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": moments, "key": key}, loss


def held_out(state: State) -> jax.Array:
    return loss_of(state["params"], X, Y)


def open_schedule(state: Any, address: str, job: str, **options: Any) -> autolrs.Schedule:
    options = {"lr_range": LR_RANGE, **options}
    return autolrs.Schedule(state, TOTAL_STEPS, server=address, job=job, **options)


def lrs(schedule: autolrs.Schedule) -> list[tuple[int, float]]:
    return [(step.total_step, step.lr) for step in schedule.history]


def undisturbed(address: str, job: str, **options: Any) -> tuple[list[tuple[int, float]], State]:
    with open_schedule(make(), address, job, **options) as schedule:
        state = schedule.state
        for batch in schedule.steps(batches):
            state, loss = train_step(state, batch)
            state = schedule.step(state, loss)
    return lrs(schedule), state


def same(a: Any, b: Any) -> bool:
    """Whether the states are equal to the bit, keys included."""
    return pickle.dumps(on_host(a)) == pickle.dumps(on_host(b))


def on_host(state: Any) -> list[bytes]:
    leaves = jax.tree.leaves(state)
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    leaves = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, keys)]
    return [jax.device_get(leaf).tobytes() for leaf in leaves]


def save(path: Path, state: State, schedule: autolrs.Schedule) -> None:
    """The old file or the new one, whenever the process is killed."""
    plain = {**state, "key": jax.random.key_data(state["key"])}
    path.with_suffix(".new").write_bytes(pickle.dumps((jax.device_get(plain), schedule.state_dict())))
    os.replace(path.with_suffix(".new"), path)


def main(address: str, job: str, directory: Path, pause: float) -> None:
    checkpoint = directory / "checkpoint.pickle"
    state, resume = make(), None
    if checkpoint.exists():
        state, resume = pickle.loads(checkpoint.read_bytes())
        state = jax.tree.map(jnp.asarray, state)
        state["key"] = jax.random.wrap_key_data(state["key"])
    with open_schedule(state, address, job, resume=resume) as schedule:
        state = schedule.state
        if resume is None:
            save(checkpoint, state, schedule)
        for count, batch in enumerate(schedule.steps(batches), start=1):
            state, loss = train_step(state, batch)
            state = schedule.step(state, loss)
            time.sleep(pause)
            if count % 20 == 0:
                save(checkpoint, state, schedule)
                print(schedule.total_step, schedule.phase, flush=True)
    (directory / "result.pickle").write_bytes(pickle.dumps((lrs(schedule), on_host(state["params"]))))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("address")
    arguments.add_argument("job")
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--pause", type=float, default=0.0)
    main(**vars(arguments.parse_args()))
