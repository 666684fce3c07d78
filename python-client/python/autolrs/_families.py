"""The learning rates that are worth trying, by the optimizer's family."""

from __future__ import annotations

from autolrs._exceptions import InvalidSpec

# The names also cover subclasses, the fused and quantised variants of other packages, and Keras.
_FAMILIES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(["SGD", "FusedSGD", "SGD8bit"], (1e-4, 10.0)),
    **dict.fromkeys(
        ["Adam", "AdamW", "Adamax", "NAdam", "Nadam", "RAdam", "SparseAdam", "FusedAdam", "DeepSpeedCPUAdam"],
        (1e-6, 0.3),
    ),
    **dict.fromkeys(["Adam8bit", "AdamW8bit", "PagedAdam", "PagedAdamW", "PagedAdamW8bit"], (1e-6, 0.3)),
}


def lr_range_of(optimizer: object) -> tuple[float, float]:
    """The LRs that are worth trying with this optimizer."""
    for kind in type(optimizer).__mro__:
        if kind.__name__ in _FAMILIES:
            return _FAMILIES[kind.__name__]
    raise no_lr_range(type(optimizer).__name__)


def no_lr_range(what: str) -> InvalidSpec:
    """The error where nobody can tell which LRs are worth trying."""
    return InvalidSpec(
        f"There is no default lr_range for {what}.",
        [("lr_range", "the lowest and the highest LR to try, for instance lr_range=(1e-5, 1.0)")],
    )
