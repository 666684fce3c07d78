"""Learning rates for a running training, searched and scheduled by the AutoLRS service.

The schedule for PyTorch is `autolrs.torch.Schedule`, those for JAX and Keras are in `autolrs.jax` and `autolrs.keras`;
`Session` is the one for any loop. This module holds what is common to all frameworks, and imports none of them.
`load_schedule` reads the file of a schedule that was exported, and `replay` trains with it in plain PyTorch, without a
server.
"""

from typing import TYPE_CHECKING, Any

from autolrs._exceptions import (
    AutoLRSWarning,
    CheckpointMismatch,
    CheckpointTooOld,
    Error,
    Fenced,
    InvalidSchedule,
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

if TYPE_CHECKING:
    from autolrs._any_loop import Session
    from autolrs._core import __version__
    from autolrs._saved import SavedSchedule, load_schedule, replay

__all__ = [
    "AutoLRSWarning",
    "CheckpointMismatch",
    "CheckpointTooOld",
    "Error",
    "Fenced",
    "History",
    "InvalidSchedule",
    "InvalidSpec",
    "JobExists",
    "JobFinished",
    "JobInProgress",
    "JobNotFound",
    "OpenRefused",
    "PermissionDenied",
    "ResourceExhausted",
    "SavedSchedule",
    "ServerUnavailable",
    "Session",
    "SessionActive",
    "Step",
    "Unauthenticated",
    "Unsupported",
    "__version__",
    "load_schedule",
    "replay",
]


# What needs the native module is imported at its first use.
_NATIVE = {
    "SavedSchedule": "autolrs._saved",
    "Session": "autolrs._any_loop",
    "__version__": "autolrs._core",
    "load_schedule": "autolrs._saved",
    "replay": "autolrs._saved",
}


def __getattr__(name: str) -> Any:
    if name not in _NATIVE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_NATIVE[name]), name)
