"""A schedule for any training loop, whatever computes the steps: the user says what to copy and how to put it back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

from autolrs._families import no_lr_range
from autolrs._guard import GuardedSchedule
from autolrs._options import Options, request_of, searches, with_options

if TYPE_CHECKING:
    from autolrs._options import Unpack


@with_options
class Session(GuardedSchedule):
    """Follows the learning rates that the service decides for one training run, in a loop of any kind.

    >>> session = autolrs.Session(save, restore, total_steps=5000, fallback_lr=0.1, lr_range=(1e-3, 10.0))
    >>> for batch in session.steps(batches):
    ...     loss = train_step(batch, lr=session.lr)
    ...     session.step(loss)

    Parameters
    ----------
    save : function without arguments
        Gives everything that a step changes: weights, the optimizer's moments, random number generators. What it
        gives is copied (`copy.deepcopy`), so it may be the live objects. Two copies at most are kept.
    restore : function of what `save` gave
        Puts it back, to the bit; called after every trial. What it gets is its own to keep.
    total_steps : int or None
        Budget in steps; the search's are included (at most a tenth of it with the default policy). An operator may
        change it later (`autolrs jobs update`): train until `done`, as `steps` does, not for a count of steps.
        None with "scan": not known yet; end it with `finish()`. None with "replay": the steps of its schedule.
    fallback_lr : float
        The LR that you would train with: used where nothing is measured, and by the plain policies.
    lr_range : (float, float), optional
        Lowest and highest LR that are *tried*; "scan", "staged" and "paper" need it. Rules of thumb: (1e-4, 10) for
        SGD, (1e-6, 0.3) for Adam's family.
    set_lr : function of a float, optional
        Called whenever the LR of the next step changes; else read `session.lr` before every step.
    validate : function without arguments, optional
        Measures the validation loss of the state at hand and leaves it as it is. Called after steps that the
        service names: at the end of each committed stretch, and in the trials of "paper" once it goes by the
        validation loss.
    resume : mapping, optional
        The `state_dict()` of an earlier session, as with `load_state_dict`.
    """

    def __init__(
        self,
        save: Callable[[], Any],
        restore: Callable[[Any], object],
        total_steps: int | None,
        *,
        fallback_lr: float,
        lr_range: tuple[float, float] | None = None,
        set_lr: Callable[[float], object] | None = None,
        validate: Callable[[], SupportsFloat] | None = None,
        resume: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        if lr_range is None and searches(options):
            raise no_lr_range("a loop of your own")
        self._set = set_lr
        self._validate = validate
        request = request_of(
            options,
            total_steps=total_steps,
            lr_range=lr_range,
            fallback_lr=fallback_lr,
            validate=validate is not None,
            switch_every=1,
            resume=resume,
        )
        super().__init__(request, FunctionSlots(save, restore))
        if resume is None:
            self._open()
        else:
            self.load_state_dict(resume)

    def step(self, loss: SupportsFloat) -> None:
        """Reports the loss of one step and decides the LR of the next: `session.lr`, and `set_lr` if it changes.

        Call it once after every update of the weights. Waits for the server only where a directive ends.
        """
        self._report(float(loss))

    def _apply_lr(self, lr: float) -> None:
        if self._set is not None:
            self._set(lr)

    def _pending_losses(self) -> list[float]:
        return []

    def _measured_validation(self) -> float:
        assert self._validate is not None  # the request promised it
        try:
            return float(self._validate())
        except Exception as error:
            if self._forgives(error):
                return float("nan")
            raise

    def _diverged(self) -> None:
        self.step(float("nan"))


class FunctionSlots:
    """Slots filled by the user's `save` and put back by the user's `restore`."""

    def __init__(self, save: Callable[[], Any], restore: Callable[[Any], object]) -> None:
        self._save = save
        self._restore = restore
        self._slots: dict[str, Any] = {}

    def save(self, name: str) -> None:
        self._slots[name] = copy.deepcopy(self._save())

    def restore(self, name: str) -> None:
        self._restore(copy.deepcopy(self._slots[name]))

    def drop(self, name: str) -> None:
        self._slots.pop(name, None)

    def names(self) -> list[str]:
        return list(self._slots)

    def content(self, name: str) -> dict[str, Any]:
        return {"state": self._slots[name]}

    def adopt(self, name: str, content: dict[str, Any]) -> None:
        self._slots[name] = copy.deepcopy(content["state"])
        self.restore(name)
