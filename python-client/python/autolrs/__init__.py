"""Learning rates for a running training, searched and scheduled by the AutoLRS service.

The schedule for PyTorch is `autolrs.torch.Schedule`. This module holds what is common to all frameworks, and
imports none of them.
"""

from autolrs._exceptions import (
    AutoLRSWarning,
    CheckpointMismatch,
    CheckpointTooOld,
    Error,
    Fenced,
    InvalidSpec,
    JobExists,
    JobFinished,
    JobInProgress,
    JobNotFound,
    OpenRefused,
    PermissionDenied,
    ResourceExhausted,
    ServerUnavailable,
    SessionActive,
    Unauthenticated,
    Unsupported,
)
from autolrs._history import History, Step

__all__ = [
    "AutoLRSWarning",
    "CheckpointMismatch",
    "CheckpointTooOld",
    "Error",
    "Fenced",
    "History",
    "InvalidSpec",
    "JobExists",
    "JobFinished",
    "JobInProgress",
    "JobNotFound",
    "OpenRefused",
    "PermissionDenied",
    "ResourceExhausted",
    "ServerUnavailable",
    "SessionActive",
    "Step",
    "Unauthenticated",
    "Unsupported",
    "__version__",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from autolrs._core import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
