"""What a Keras training consists of, whatever the backend: its variables as numpy arrays, and the loss of one batch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from autolrs._exceptions import CheckpointMismatch, Unsupported


def numbers(variables: list[Any]) -> list[Any]:
    """The variables' values as arrays of their own."""
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def assign(variables: list[Any], values: list[Any]) -> None:
    """Puts the values back. Each variable gets an array of its own: a compiled step may take it for its result."""
    if [variable.shape for variable in variables] != [value.shape for value in values]:
        raise CheckpointMismatch("The checkpoint was written with another model or optimizer: the shapes differ.")
    for variable, value in zip(variables, values):
        variable.assign(np.array(value))


def all_variables(model: Any) -> list[Any]:
    """Weights, the states of layers and of seed generators, and the optimizer's; without the metrics."""
    return [*model.variables, *model.optimizer.variables]


def save_generators() -> Any:
    """The random number generators outside of the model: on PyTorch, dropout without a seed draws from them."""
    if keras.backend.backend() != "torch":
        return None
    from autolrs._keepers import save_rng

    return save_rng()


def restore_generators(state: Any) -> None:
    if state is not None:
        from autolrs._keepers import restore_rng

        restore_rng(state)


class KerasSlots:
    """Named copies of a model and its optimizer, in host memory.

    Parameters
    ----------
    callback : has the attribute `model`; on JAX, reading it brings the variables up to date within an epoch, and the
        next step starts from them
    """

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._slots: dict[str, dict[str, Any]] = {}

    def save(self, name: str) -> None:
        variables = numbers(all_variables(self._callback.model))
        self._slots[name] = {"variables": variables, "generators": save_generators()}

    def restore(self, name: str) -> None:
        model = self._callback.model
        assign(all_variables(model), self._slots[name]["variables"])
        restore_generators(self._slots[name]["generators"])
        model.reset_metrics()  # else the NaN of a trial would stay in the epoch's mean

    def drop(self, name: str) -> None:
        self._slots.pop(name, None)

    def names(self) -> list[str]:
        return list(self._slots)

    def content(self, name: str) -> dict[str, Any]:
        return dict(self._slots[name])

    def adopt(self, name: str, content: dict[str, Any]) -> None:
        self._slots[name] = dict(content)
        self.restore(name)


class BatchLoss:
    """The loss of the last batch. The "loss" that Keras gives to callbacks is the mean of the epoch so far."""

    def __init__(self, model: Any) -> None:
        tracker = next((metric for metric in model.metrics if metric.name == "loss"), None)
        if not isinstance(tracker, keras.metrics.Mean):
            raise Unsupported(
                'The model has no metric keras.metrics.Mean(name="loss") that its train_step updates with the loss of '
                "each batch: give a train_step of your own one, or use autolrs.Session in a loop."
            )
        self._tracker = tracker
        if not hasattr(tracker, "autolrs_last"):
            _remember_last(tracker)
        self._place = next(
            number for number, each in enumerate(model.metrics_variables) if each is tracker.autolrs_last
        )

    def read(self, model: Any) -> float:
        """The loss; waits for the batch, as Keras does anyway for a callback that watches batches."""
        state = getattr(model, "_jax_state", None)
        if state and not model._jax_state_synced:  # JAX has the metrics outside of the model within an epoch
            return float(state["metrics_variables"][self._place])
        return float(keras.ops.convert_to_numpy(self._tracker.autolrs_last.value))


def _remember_last(tracker: Any) -> None:
    tracker.autolrs_last = tracker.add_variable(shape=(), initializer="zeros", dtype="float32", name="last")
    update = tracker.update_state

    def update_state(values: Any, sample_weight: Any = None) -> Any:
        result = update(values, sample_weight)
        tracker.autolrs_last.assign(keras.ops.mean(keras.ops.cast(values, "float32")))
        return result

    tracker.update_state = update_state
