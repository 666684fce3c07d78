"""`autolrs.jax`: jitted steps that donate their state, on the real server. Nothing is compiled twice."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax_trainer
import numpy as np
import optax
import pytest
from conftest import Server
from flax.training.train_state import TrainState
from jax_trainer import batches, held_out, loss_of, make, on_host, open_schedule, optimizer, same, undisturbed
from numpy_trainer import TOTAL_STEPS
from serving import killed_in

import autolrs as errors

COMPILED = "/jax/core/compile/backend_compile_duration"


def counted_step() -> Any:
    """A jitted step of its own, whose compilations are counted by `_cache_size()`."""
    return partial(jax.jit, donate_argnums=0)(lambda state, batch: jax_trainer.train_step.__wrapped__(state, batch))


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Everything that XLA compiles meanwhile."""
    seen: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == COMPILED:
            seen.append(str(details))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("slots", ["device", "host"])
def test_one_compilation_in_a_whole_run_and_the_lr_is_in_force(
    server: Server, slots: str, compilations: list[str]
) -> None:
    step = counted_step()
    inside: list[jax.Array] = []
    to_begin = 0  # what was compiled until the first step that is kept
    starts: list[list[bytes]] = []
    with open_schedule(make(), server.address, "toy", slots=slots) as schedule:
        state = schedule.state
        for batch in schedule.steps(batches):
            assert float(state["optimizer"].hyperparams["learning_rate"]) == np.float32(schedule.lr)
            starts.append(on_host({"params": state["params"], "key": state["key"]}))
            state, loss = step(state, batch)
            inside.append(jnp.copy(state["optimizer"].hyperparams["learning_rate"]))
            if to_begin == 0 and not schedule.searching:
                to_begin = len(compilations)
            state = schedule.step(state, loss)
            assert not state["optimizer"].hyperparams["learning_rate"].weak_type
    assert step._cache_size() == 1
    assert to_begin > 0 and compilations[to_begin:] == []  # nor is anything else compiled once training is under way
    assert schedule.done_reason == "finished" and schedule.total_step == TOTAL_STEPS
    assert [float(lr) for lr in inside] == [np.float32(step.lr) for step in schedule.history]
    assert len({step.lr for step in schedule.history}) > TOTAL_STEPS // 3
    trials = [
        starts[next(steps)[0]]
        for phase, steps in groupby(enumerate(schedule.history), key=lambda step: (step[1].phase, step[1].seq))
        if phase[0] in ("trial", "warmup")
    ]
    assert len(trials) >= 4 and all(start == trials[0] for start in trials)
    assert all(np.isfinite(step.loss) for step in schedule.history)
    assert float(held_out(state)) < 0.5 * float(held_out(make()))


def test_what_a_careless_loop_costs() -> None:
    """The trap, so that the counter above is known to count: a Python number in the state is another type."""
    step = counted_step()
    state, _ = step(make(), next(batches(0)))
    state["optimizer"].hyperparams["learning_rate"] = jnp.asarray(0.1)
    assert state["optimizer"].hyperparams["learning_rate"].weak_type
    step(state, next(batches(1)))
    assert step._cache_size() == 2


def test_the_lr_as_an_argument(server: Server) -> None:
    plain = optax.sgd(1.0)

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: Any, batch: Any, lr: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(state["params"], *batch)
        updates, moments = plain.update(gradients, state["optimizer"])
        updates = jax.tree.map(lambda update: lr * update, updates)
        return {"params": optax.apply_updates(state["params"], updates), "optimizer": moments}, loss

    params = make()["params"]
    state = {"params": params, "optimizer": plain.init(params)}
    with pytest.raises(errors.InvalidSpec, match="lr_array"):
        open_schedule(state, server.address, "toy")
    used = []
    with open_schedule(state, server.address, "toy", fallback_lr=0.01) as schedule:
        state = schedule.state
        for batch in schedule.steps(batches):
            used.append(schedule.lr_array)
            state, loss = train_step(state, batch, schedule.lr_array)
            state = schedule.step(state, loss)
    assert train_step._cache_size() == 1
    assert all(lr.dtype == jnp.float32 and not lr.weak_type for lr in used)
    assert [float(lr) for lr in used] == [np.float32(step.lr) for step in schedule.history]


def test_a_flax_train_state(server: Server) -> None:
    """Two injected LRs, one of a smaller type, keep their ratio; what else flax holds goes along."""
    part = partial(optax.inject_hyperparams, hyperparam_dtype=jnp.bfloat16)
    both = optax.multi_transform(
        {
            "slow": optax.inject_hyperparams(optax.adam)(learning_rate=2**-10),
            "fast": part(optax.sgd)(learning_rate=2**-8),
        },
        {"hidden": "slow", "out": "fast"},
    )

    @partial(jax.jit, donate_argnums=0)
    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(state.params, *batch)
        return state.apply_gradients(grads=gradients), loss

    # flax counts steps from a Python number, whose own entry in jit's cache is not meant here.
    state = TrainState.create(apply_fn=loss_of, params=make()["params"], tx=both).replace(step=jnp.asarray(0))
    with open_schedule(state, server.address, "toy", lr_range=(1e-5, 1.0)) as schedule:
        state = schedule.state
        for batch in schedule.steps(batches):
            inner = state.opt_state.inner_states
            slow = inner["slow"].inner_state.hyperparams["learning_rate"]
            fast = inner["fast"].inner_state.hyperparams["learning_rate"]
            assert slow.dtype == jnp.float32 and float(slow) == np.float32(0.25 * schedule.lr)
            assert fast.dtype == jnp.bfloat16 and float(fast) == jnp.bfloat16(schedule.lr)
            state, loss = train_step(state, batch)
            state = schedule.step(state, loss)
    assert isinstance(state, TrainState) and schedule.done_reason == "finished"
    assert int(state.step) == schedule.committed_step < schedule.total_step
    assert train_step._cache_size() == 1


@pytest.mark.parametrize("slots", ["device", "host"])
def test_sharded_over_two_devices(server: Server, slots: str) -> None:
    """In a process of its own, which is told to see two devices."""
    command = [sys.executable, "-c", SHARDED, server.address, slots]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["2", "1", "1", "finished"]


SHARDED = f"""
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
sys.path.insert(0, {str(Path(jax_trainer.__file__).parent)!r})
import jax, jax_trainer
from jax.sharding import NamedSharding, PartitionSpec
mesh = jax.make_mesh((2,), ("data",))
print(len(jax.devices()))
everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
state = jax.device_put(jax_trainer.make(), everywhere)
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **details: compiled.append(details) if event == "{COMPILED}" else None
)
traced = []
def train_step(state, batch):
    traced.append(state)
    return jax_trainer.train_step.__wrapped__(state, batch)
step = jax.jit(train_step, donate_argnums=0, out_shardings=everywhere)
with jax_trainer.open_schedule(state, sys.argv[1], "toy", slots=sys.argv[2]) as schedule:
    state = schedule.state
    for batch in schedule.steps(jax_trainer.batches):
        state, loss = step(state, jax.device_put(batch, split))
        state = schedule.step(state, loss)
print(len(traced), sum("train_step" in str(each) for each in compiled), schedule.done_reason)
"""


def test_a_trainer_killed_twice_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    reference, state = undisturbed(server.address, "undisturbed")
    command = [sys.executable, jax_trainer.__file__, server.address, "toy", str(tmp_path)]
    for phase in ("trial", "stable"):
        killed_in(phase, [*command, "--pause", "0.004"])
        assert not (tmp_path / "result.pickle").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    schedule, params = pickle.loads((tmp_path / "result.pickle").read_bytes())
    assert schedule == reference
    assert params == on_host(state["params"])


def test_no_step_waits_for_its_loss(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a directive losses are read at switch points alone, and then not the newest seven: JAX runs ahead."""
    from autolrs import _late_losses

    array = type(jnp.zeros(()))
    read_in_steps: set[int] = set()
    unread: list[int] = []
    steps = 0
    number, ripe = array.__float__, _late_losses.LateLosses.ripe

    def reading(self: Any) -> float:
        read_in_steps.add(steps)
        return number(self)

    def watched(self: Any) -> list[float]:
        unread.append(len(self._collected))
        return ripe(self)

    monkeypatch.setattr(array, "__float__", reading)
    monkeypatch.setattr(_late_losses.LateLosses, "ripe", watched)
    with open_schedule(make(), server.address, "toy") as schedule:
        state = schedule.state
        for batch in schedule.steps(batches):
            state, loss = jax_trainer.train_step(state, batch)
            state = schedule.step(state, loss)
            steps += 1
    assert steps == TOTAL_STEPS
    assert 0 < len(read_in_steps) < TOTAL_STEPS / 5
    within = [newer for newer in unread if newer]
    assert within and min(within) == 7


def test_validation_is_asked_for_and_changes_nothing(server: Server) -> None:
    reference, trained = undisturbed(server.address, "without")
    measured: list[float] = []

    def validate(state: Any) -> jax.Array:
        loss = held_out(state)
        measured.append(float(loss))
        return loss

    schedule, state = undisturbed(server.address, "with", validate=validate)
    assert len(measured) >= 4 and measured[-1] == float(held_out(state)) < measured[0]
    assert schedule == reference and same(state, trained)


def test_an_lr_of_somebody_else(server: Server) -> None:
    """Said once with both values; then ours is in force."""
    with open_schedule(make(), server.address, "toy", policy="constant") as schedule:
        state = schedule.state
        with pytest.warns(errors.AutoLRSWarning, match=r"LR 0.5 .* 0.01") as said:
            for batch in schedule.steps(batches):
                if schedule.total_step == 30:
                    state["optimizer"].hyperparams["learning_rate"] = jnp.asarray(0.5, jnp.float32)
                state, loss = jax_trainer.train_step(state, batch)
                state = schedule.step(state, loss)
    assert len(said) == 1
    assert float(state["optimizer"].hyperparams["learning_rate"]) == np.float32(0.01)


def test_what_is_put_back_gets_the_lr_in_force(server: Server) -> None:
    """Also if the LR is the one that was in force before: the copy has that of its own time in it."""
    with open_schedule(make(), server.address, "toy", policy="constant") as schedule:
        schedule.state["optimizer"].hyperparams["learning_rate"] = jnp.asarray(0.5, jnp.float32)
        schedule._slot_op("save", "SAFE")
        schedule._set_lr(schedule.lr)
        schedule._slot_op("restore", "SAFE")
        schedule._set_lr(schedule.lr)
        assert float(schedule.state["optimizer"].hyperparams["learning_rate"]) == np.float32(0.01)


def test_a_loop_that_does_not_take_up_the_state(server: Server) -> None:
    with open_schedule(make(), server.address, "toy") as schedule, pytest.warns(errors.AutoLRSWarning, match="Begin"):
        state, loss = jax_trainer.train_step(make(), next(iter(schedule.steps(batches))))
        state = schedule.step(state, loss)
    assert float(state["optimizer"].hyperparams["learning_rate"]) == np.float32(schedule.lr)


def test_what_is_refused(server: Server) -> None:
    params = make()["params"]
    scheduled = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.cosine_decay_schedule(0.1, 100))
    with pytest.raises(errors.Unsupported, match="schedule of optax"):
        open_schedule({"optimizer": scheduled.init(params)}, server.address, "toy")
    with pytest.raises(errors.InvalidSpec, match="lr_range"):
        open_schedule(make(), server.address, "toy", lr_range=None)
    with open_schedule(make(), server.address, "toy") as schedule:
        with pytest.raises(ValueError, match=r"shape \(3,\)"):
            schedule.step(schedule.state, jnp.zeros(3))
        with pytest.raises(errors.Error, match="outside|after that function"):
            jax.jit(lambda state: schedule.step(state, jnp.sum(state["params"]["out"])))(schedule.state)
        state, loss = jax_trainer.train_step(schedule.state, next(schedule.steps(batches)))
        schedule.step(state, loss)
        saved = schedule.state_dict()
    other = {"optimizer": optimizer.init({"a": jnp.zeros(2)})}
    with pytest.raises(errors.CheckpointMismatch, match="state of"):
        open_schedule(other, server.address, "toy", resume=saved)
