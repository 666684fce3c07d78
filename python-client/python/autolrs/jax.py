"""A learning-rate schedule from the AutoLRS service, for JAX training loops.

>>> import autolrs.jax as autolrs
>>> optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
>>> state = {"params": params, "optimizer": optimizer.init(params), "key": key}
>>> with autolrs.Schedule(state, total_steps=20_000, lr_range=(1e-6, 0.3), job="resnet50") as schedule:
...     state = schedule.state  # with the first LR in it
...     for batch in schedule.steps(loader):
...         state, loss = train_step(state, batch)  # jitted; may donate the state
...         state = schedule.step(state, loss)

The search tries LRs that diverge; they run from a copy of the state, which is put back to the bit. Evaluate and write
checkpoints `if not schedule.searching`. A step that raises (`jax_debug_nans`, checkify) is reported by you:
`state = schedule.step(state, float("nan"))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

import jax
import jax.numpy as jnp

from autolrs._exceptions import InvalidSpec, Unsupported
from autolrs._families import no_lr_range
from autolrs._injected_lrs import InjectedLRs
from autolrs._jax_losses import moving, one_number
from autolrs._late_losses import LateLosses
from autolrs._options import Options, check_choice, request_of, searches, with_options
from autolrs._session import BaseSchedule
from autolrs._tree_slots import TreeSlots

if TYPE_CHECKING:
    from autolrs._options import Unpack

__all__ = ["Schedule"]

# Steps between switch points when losses are read late: how long a loss may take to arrive.
_LATE_SWITCH_EVERY = 8


@with_options
class Schedule(BaseSchedule):
    """Follows the learning rates that the service decides for one training run.

    The LR reaches the compiled step without compiling anything anew: in the state, where `optax.inject_hyperparams`
    keeps it, or as an argument, `lr_array`.

    Parameters
    ----------
    state : pytree
        Everything that a step changes: parameters, optimizer state, batch statistics, keys of random numbers. A
        dict, a tuple, a flax `TrainState`: any pytree. Go on with the attribute `state`, not with what you passed.
    total_steps : int or None
        Budget in optimizer steps; the search's are included (at most a tenth of it with the default policy). An
        operator may change it later (`autolrs jobs update`): train until `done`, as `steps` does, not for a count.
        None with "scan": not known yet; end it with `finish()`. None with "replay": the steps of its schedule.
    lr_range : (float, float), optional
        Lowest and highest LR that are *tried*; "scan", "staged" and "paper" need it. Rules of thumb: (1e-4, 10) for
        SGD, (1e-6, 0.3) for Adam's family.
    fallback_lr : float, optional
        Used where nothing is measured, and by the plain policies; default the LR in the state.
    lr_name : str
        Name of the injected hyperparameter. If several parts of the state have one, they keep their initial ratio.
    validate : function of the state, optional
        Measures the validation loss of a state, which it must not donate. Called after steps that the service
        names: at the end of each committed stretch, and in the trials of "paper" once it goes by the validation loss.
    slots : "device" or "host"
        Where copies of the state (two at most) are kept.
    device_losses : bool
        Whether losses are read late, so that no step waits for its own; set False for losses that are numbers.
    resume : mapping, optional
        The `state_dict()` of an earlier schedule, as with `load_state_dict`.
    """

    _slots: TreeSlots

    def __init__(
        self,
        state: Any,
        total_steps: int | None,
        *,
        lr_range: tuple[float, float] | None = None,
        fallback_lr: float | None = None,
        lr_name: str = "learning_rate",
        validate: Callable[[Any], SupportsFloat] | None = None,
        slots: str = "device",
        device_losses: bool = True,
        resume: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        check_choice("slots", slots, ("device", "host"))
        if jax.process_count() > 1:
            raise Unsupported("Training with several processes is not supported by this release.")
        if lr_range is None and searches(options):
            raise no_lr_range("a JAX optimizer")
        self._injected = InjectedLRs(state, lr_name)
        self._put: float | None = None
        self._begun = False
        self._told = False
        self._array: tuple[float, jax.Array] | None = None
        self._late = LateLosses(moving) if device_losses else None
        self._validate = validate
        if fallback_lr is None:
            if not self._injected:
                raise InvalidSpec(
                    f"The state holds no injected {lr_name}: make the optimizer with optax.inject_hyperparams, "
                    "or give fallback_lr and pass schedule.lr_array to your step.",
                    [("fallback_lr", "the LR you would train with")],
                )
            fallback_lr = resume["lrs"]["base"] if resume is not None else self._injected.base
        request = request_of(
            options,
            total_steps=total_steps,
            lr_range=lr_range,
            fallback_lr=fallback_lr,
            validate=validate is not None,
            switch_every=_LATE_SWITCH_EVERY if device_losses else 1,
            resume=resume,
        )
        super().__init__(request, TreeSlots(state, slots == "host"))
        if resume is None:
            self._open()
        else:
            self.load_state_dict(resume)

    def step(self, state: Any, loss: SupportsFloat) -> Any:
        """Reports the loss of one optimizer step; gives the state to go on with.

        Call it once after every step, outside of jit. The state that it gives has the next LR in it; after a trial it
        is the one that was saved. Waits for the server only where a directive ends, and never for the loss alone.

        Parameters
        ----------
        state : pytree
            The state after the step, of the structure that the schedule was made with.
        loss : array of one number, or float
            Not read at once: the program goes on while the device computes.
        """
        value = one_number(loss)
        self._slots.live = state
        if not self._live:
            self._not_live()
            return state
        if self._late is None:
            code = self._record(float(value))
            self._history.add_loss(float(value))
        else:
            self._late.add(value)
            code = self._tick()
        self._history.add_lr(self._lr)
        if not self._begun:
            self._begun = True
            self._reclaim("Begin with `state = schedule.state`.")
        if code:
            self._after_step(code)
        return self._slots.live

    @property
    def state(self) -> Any:
        """The state to go on with: after the schedule was made, after `load_state_dict`, and as `step` gave it."""
        return self._slots.live

    @property
    def lr_array(self) -> jax.Array:
        """LR of the next step as an array for a compiled step's argument. Its type is always the same (that of the
        injected hyperparameter, else float32) and not weak, so that another LR compiles nothing anew."""
        if self._array is None or self._array[0] != self._lr:
            self._array = self._lr, jnp.asarray(self._lr, dtype=self._injected.dtype)
        return self._array[1]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint file needs to go on here: plain values, bytes and numpy arrays, for `pickle`.

        During a search it holds the state at the search's start: loading it goes on there and the search starts again.
        """
        state = super().state_dict()
        state["lrs"] = {"base": self._injected.base, "ratios": list(self._injected.ratios)}
        return state

    def load_state_dict(self, state: Mapping[str, Any], live: Any = None) -> None:
        """Goes on where `state` was taken; then take up the attribute `state`.

        Parameters
        ----------
        state : mapping
            What `state_dict` gave.
        live : pytree, optional
            The training state of the same checkpoint; default: what the schedule was made with.
        """
        plain = dict(state)
        if live is not None:
            self._slots.live = live
        self._injected.load(**plain.pop("lrs"))
        self._put = None
        if self._late is not None:
            self._late.drain()
        super().load_state_dict(plain)

    def _apply_lr(self, lr: float) -> None:
        if self._injected and lr != self._put:
            self._slots.live = self._injected.put(self._slots.live, lr)
            self._put = lr

    def _slot_op(self, op: str, slot: str) -> None:
        if op == "restore":
            self._put = None  # what comes back has the LR of its own time in it
        super()._slot_op(op, slot)

    def _advance(self) -> None:
        if not self._waiting:  # all losses have been read: reading the LR as well waits for nothing
            self._reclaim("Remove the other schedule.")
        super()._advance()

    def _reclaim(self, hint: str) -> None:
        """If the LR of the last step was not ours: ours wins, and the user hears of it once."""
        wanted = self._lr
        if self._injected.holds(self._slots.live, wanted):
            return
        if not self._told:
            self._told = True
            found = max(self._injected.read(self._slots.live))
            self._warn(
                f"The step was run with the LR {found:g} in its state; the schedule's is {wanted:g}, and it is in "
                f"force again. {hint} (This is said once.)"
            )
        self._put = None
        self._apply_lr(wanted)

    def _measured_validation(self) -> float:
        assert self._validate is not None  # the request promised it
        return float(self._validate(self._slots.live))

    def _ripe_losses(self) -> list[float]:
        return self._late.ripe() if self._late is not None else []

    def _pending_losses(self) -> list[float]:
        return self._late.drain() if self._late is not None else []
