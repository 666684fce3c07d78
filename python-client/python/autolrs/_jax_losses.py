"""Losses on their way from a JAX device to the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from autolrs._exceptions import Error


def moving(losses: list[Any]) -> Callable[[], list[float]]:
    """Starts the copies to the host, of which JAX makes none by itself; gives what reads them."""
    for loss in losses:
        if isinstance(loss, jax.Array):
            loss.copy_to_host_async()
    return lambda: [float(loss) for loss in losses]


def one_number(loss: Any) -> Any:
    """The loss as it is, if it is one number."""
    if isinstance(loss, jax.core.Tracer):
        raise Error("schedule.step was called inside of a jitted function: call it after that function, with its loss.")
    if isinstance(loss, jax.Array):
        if loss.size != 1:
            raise ValueError(
                f"step(state, loss) needs one number, not an array of shape {loss.shape}: use loss.mean()."
            )
        return loss
    return float(loss)
