"""What the adapters for frameworks that own the training loop have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from autolrs._exceptions import Error
from autolrs._options import Options
from autolrs.torch import Schedule


def check_options(options: Mapping[str, Any], adapter: str) -> None:
    """Raises TypeError for a keyword that `Schedule` does not know, or that the adapter sets itself."""
    known = {*inspect.signature(Schedule.__init__).parameters, *Options.__annotations__}
    for name in options:
        if name in ("self", "optimizer", "model", "resume") or name not in known:
            raise TypeError(f"{adapter} takes the options of autolrs.torch.Schedule; {name!r} is none of them.")


def steps_enough(schedule: Schedule, total_steps: int | None, left: float, setting: str) -> None:
    """Raises ValueError if the framework would stop training before the schedule is done.

    `left` counts the optimizer steps that the framework will still run; `setting` says what to change.
    """
    if total_steps is None or schedule.done:
        return
    needed = total_steps - schedule.total_step
    if left < needed:
        raise ValueError(
            f"The trainer would stop {needed - left:.0f} steps before the schedule's end: it has {left:.0f} steps to "
            f"go and the schedule {needed}, search included. {setting}"
        )


class StepLoss:
    """The loss of one optimizer step, from the losses of its batches; nothing is read from a device."""

    def __init__(self) -> None:
        self._sum: Tensor | float | None = None
        self.batches = 0

    def add(self, loss: Tensor | float) -> None:
        """One more batch."""
        detached = loss.detach() if isinstance(loss, Tensor) else loss
        self._sum = detached if self._sum is None else self._sum + detached
        self.batches += 1

    def take(self) -> Tensor | float | None:
        """The sum since the last call; None without a batch."""
        total, self._sum, self.batches = self._sum, None, 0
        return total


class TrialGate:
    """Switches methods of other objects off, or changes what they do, while trials run.

    They are shadowed on the instance, so every subclass is covered, and given back by `open`.
    """

    def __init__(self) -> None:
        self._shadowed: list[tuple[Any, str]] = []

    def shadow(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Puts `make(method)` in the place of the method of this name."""
        method = getattr(owner, name, None)
        if method is not None and name not in vars(owner):
            setattr(owner, name, make(method))
            self._shadowed.append((owner, name))

    def open(self) -> None:
        """Everything is as it was."""
        while self._shadowed:
            owner, name = self._shadowed.pop()
            vars(owner).pop(name, None)


class RepeatedBatches:
    """A loader in passes of `length` batches, for a framework that draws each batch when it trains on it.

    Behind it is one endless stream, which the schedule rewinds so that trials see the same batches; the passes are
    the framework's way to count. With `skip`, a pass that was begun before a restart is gone through up to where the
    checkpoint was written, as if it were trained on: exact if the loader's order depends on the number of the
    pass alone.
    """

    def __init__(
        self,
        schedule: Callable[[], Schedule],
        loader: Any,
        length: int | None,
        replay: str,
        replay_mb: float,
        skip: bool = False,
    ) -> None:
        if length is None:
            if not hasattr(loader, "__len__"):
                raise TypeError(
                    "This loader has no length. Give the number of batches that the framework is to call an epoch: "
                    "loader(..., length=1000)."
                )
            length = len(loader)
        self._schedule = schedule
        self._loader = loader
        self._length = length
        self._replay, self._replay_mb = replay, replay_mb
        self._skip = skip
        self._batches: Iterator[Any] | None = None
        self._of: Schedule | None = None

    @property
    def dataset(self) -> Any:
        """The loader's own."""
        return self._loader.dataset

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self._length):
            try:
                yield next(self._stream())
            except StopIteration:  # the schedule is done
                return

    def _stream(self) -> Iterator[Any]:
        schedule = self._schedule()
        if self._batches is None or self._of is not schedule:
            self._of = schedule
            loader = self._loader
            start = schedule._start
            if self._skip:
                loader = _Begun(loader, start.position - start.number_of_pass * self._length)
            self._batches = schedule.steps(loader, replay=self._replay, replay_mb=self._replay_mb)
        return self._batches


class _Begun:
    """A loader whose next pass begins at batch number `skip`. It has no `state_dict`: that of accelerate's loaders
    works only where it was asked for.
    """

    def __init__(self, loader: Any, skip: int) -> None:
        self._loader = loader
        self._skip = skip
        self.sampler = getattr(loader, "sampler", None)

    def set_epoch(self, number: int) -> None:
        """Which pass comes next."""
        if hasattr(self._loader, "set_epoch"):
            self._loader.set_epoch(number)

    def __iter__(self) -> Iterator[Any]:
        batches: Iterator[Any] = iter(self._loader)
        skip, self._skip = self._skip, 0
        for _ in range(skip):
            next(batches, None)
        return batches


def opened(schedule: Schedule | None) -> Schedule:
    """The schedule, once training has begun."""
    if schedule is None:
        raise Error("There is no schedule yet: it is made when the trainer starts to fit.")
    return schedule
