"""The learning rates of an optimizer's parameter groups, and what kind of optimizer it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from autolrs._exceptions import AutoLRSWarning, InvalidSpec, Unsupported

_SHARDED_OPTIMIZERS = {"ZeroRedundancyOptimizer", "DeepSpeedZeroOptimizer", "FullyShardedOptimizer"}


def rms_decay_of(optimizer: Optimizer) -> float | None:
    """The decay of RMSprop's running mean of squared gradients, which starts at 0 and is not corrected for it.

    None for other optimizers, and for one that has taken steps: its mean has left 0.
    """
    if optimizer.state or all(kind.__name__ != "RMSprop" for kind in type(optimizer).__mro__):
        return None
    largest = max(optimizer.param_groups, key=lambda group: float(group["lr"]))
    alpha = largest.get("alpha")
    return None if alpha is None else float(alpha)


def refuse_sharded(optimizer: Optimizer) -> None:
    """Raises if each process holds only its share of the optimizer."""
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    if names & _SHARDED_OPTIMIZERS:
        raise Unsupported(
            f"{type(optimizer).__name__} keeps a share of the state in every process; this release can't put such "
            "a state back after a trial. Use a plain optimizer."
        )


class GroupLRs:
    """Sets one LR in every group, each at its initial ratio to the largest; a group at 0 stays at 0."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        initial = [float(group["lr"]) for group in optimizer.param_groups]
        self.base = max(initial)
        if not self.base > 0.0:
            raise InvalidSpec("Every parameter group has LR 0: give the optimizer the LR you would train with.")
        self.ratios = [lr / self.base for lr in initial]
        self._main = initial.index(self.base)
        self._set: float | None = None
        self._warned = False

    def load(self, base: float, ratios: Sequence[float]) -> None:
        """Takes over what a checkpoint says: the optimizer's own LRs are those of that moment."""
        self.base = base
        self.ratios = list(ratios)
        self._main = self.ratios.index(max(self.ratios))
        self._set = None

    def put(self, lr: float) -> None:
        """Puts `lr` in force."""
        groups = self._optimizer.param_groups
        for new in groups[len(self.ratios) :]:
            self.ratios.append(float(new["lr"]) / self.base)
        for group, ratio in zip(groups, self.ratios):
            value = lr if ratio == 1.0 else lr * ratio
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value
        self._set = lr

    def untouched(self) -> bool:
        """Whether the main group's LR is the object that was put there (a tensor LR is not looked into)."""
        return self._optimizer.param_groups[self._main]["lr"] is self._set

    def reclaim(self) -> None:
        """After `untouched` said no: ours wins, and the user hears of it once."""
        found = self._optimizer.param_groups[self._main]["lr"]
        wanted = self._set
        if wanted is None or isinstance(found, Tensor):
            return
        self.put(wanted)
        if float(found) != wanted and not self._warned:
            self._warned = True
            warnings.warn(
                f"Somebody else set the LR to {float(found):g}; the schedule's is {wanted:g}, and it is in force "
                "again. Remove the other LR scheduler. (This is said once.)",
                AutoLRSWarning,
                stacklevel=4,
            )
