"""Losses on their way from a JAX device to the host, with the rhythm of `autolrs._losses.DeviceLosses`."""

from __future__ import annotations

from typing import Any

import jax

from autolrs._exceptions import Error


class LateLosses:
    """The losses that have not been read yet, oldest first.

    JAX computes behind the program's back; reading a loss waits for all that leads to it, so it is not done per step.
    At a switch point the loss of the step right after the last switch point still decides: one step after a switch
    point the copies of what was collected are started, and by the next one they have long been made.
    """

    def __init__(self) -> None:
        self._collected: list[Any] = []
        self._moving: list[Any] = []
        self._move_next = True

    def add(self, loss: Any) -> None:
        """Keeps the loss of one more step; nothing is read."""
        self._collected.append(loss)
        if self._move_next:
            self._move_next = False
            self._moving, self._collected = self._collected, []
            for each in self._moving:
                if isinstance(each, jax.Array):
                    each.copy_to_host_async()

    def ripe(self) -> list[float]:
        """At a switch point: the losses up to that of the first step after the last switch point."""
        ripe, self._moving = self._moving, []
        self._move_next = True
        return [float(loss) for loss in ripe]

    def drain(self) -> list[float]:
        """All of them; waits for the device."""
        rest, self._collected = self._collected, []
        return self.ripe() + [float(loss) for loss in rest]


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
