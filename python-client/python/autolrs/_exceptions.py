"""What can go wrong, in one tree.

Error
├── ServerUnavailable        no answer in time: start the server or check the address
├── Unauthenticated          the token is missing, unknown or expired
├── PermissionDenied         the token may not do this
├── ResourceExhausted        the tenant's quota is used up
├── InvalidSpec              the job can't be run as described; `.violations` names every field
├── InvalidSchedule          a file is not the schedule of a training; `.field`
├── JobExists                the name is taken by a job with another description; `.fields`
├── OpenRefused              the job is there but this process may not train it (now)
│   ├── JobFinished          the job has spent its budget
│   ├── JobInProgress        the job has progressed and this process brought no checkpoint of it
│   ├── SessionActive        another process trains it; `.host`, `.pid`
│   ├── CheckpointTooOld     the server no longer keeps that point; `.oldest_seq`
│   └── CheckpointMismatch   the checkpoint belongs to another job or version
├── JobNotFound              no such job on this server
├── Fenced                   a newer process has taken the job over
└── Unsupported              the trainer does something that this release can't schedule

An `OpenRefused` is raised at the schedule's first use: until then `load_state_dict` can still bring the checkpoint
that is asked for. Catch `Error` for everything.
`AutoLRSWarning` is the category of every warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AutoLRSWarning",
    "CheckpointMismatch",
    "CheckpointTooOld",
    "Error",
    "Fenced",
    "InvalidSchedule",
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
    "Unauthenticated",
    "Unsupported",
]


class Error(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> Any:
        """Copies and other processes get message and attributes as they are."""
        return _copy, (type(self), self.args, self.__dict__)


def _copy(kind: type[Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> Error:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ServerUnavailable(Error):
    """No answer from the server within the time limit."""


class Unauthenticated(Error):
    """The server does not know the token, or it needs one."""


class PermissionDenied(Error):
    """The token is valid but may not do this."""


class ResourceExhausted(Error):
    """A quota of the tenant is used up."""


class InvalidSpec(Error):
    """The job's description breaks a rule.

    Attributes
    ----------
    violations : list of (field, what it must be)
    """

    def __init__(self, message: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        lines = [f"  {field}: {text}" for field, text in violations if text not in message]
        super().__init__("\n".join([message, *lines]))
        self.violations = list(violations)


class InvalidSchedule(Error):
    """A file is not the schedule of a training.

    Attributes
    ----------
    field : path of the first field that is wrong, for instance "pieces[3].steps"; of a table the line
    description : what it must be
    """

    def __init__(self, field: str, description: str, path: str = "") -> None:
        super().__init__(f"{path}: {field}: {description}" if path else f"{field}: {description}")
        self.field = field
        self.description = description


class JobExists(Error):
    """A job of this name has another description.

    Attributes
    ----------
    fields : list of the fields that differ
    """

    def __init__(self, message: str, fields: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fields = list(fields)


class OpenRefused(Error):
    """The job exists but this process may not train it as it asked to."""


class JobFinished(OpenRefused):
    """The job has already spent its budget."""


class JobInProgress(OpenRefused):
    """The job has progressed, and this process brought no checkpoint of it."""


class SessionActive(OpenRefused):
    """Another process trains this job and was heard less than a minute ago.

    Attributes
    ----------
    host, pid : where it runs
    same_host : whether `pid` is a process of this machine (and of this container)
    """

    def __init__(self, message: str, host: str = "", pid: int = 0, same_host: bool = False) -> None:
        super().__init__(message)
        self.host = host
        self.pid = pid
        self.same_host = same_host


class CheckpointTooOld(OpenRefused):
    """The server no longer keeps the point that the checkpoint was taken at.

    Attributes
    ----------
    oldest_seq : the oldest directive from which the job can still be resumed, or None
    """

    def __init__(self, message: str, oldest_seq: int | None = None) -> None:
        super().__init__(message)
        self.oldest_seq = oldest_seq


class CheckpointMismatch(OpenRefused):
    """The checkpoint is not one of this job, or was written by another version."""


class JobNotFound(Error):
    """No such job on this server."""


class Fenced(Error):
    """A newer process has taken the job over; this one may no longer report."""


class Unsupported(Error):
    """The training set-up can't be scheduled by this release."""


class AutoLRSWarning(UserWarning):
    """Category of the warnings of this package."""
