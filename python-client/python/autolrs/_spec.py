"""What the trainer asks the service for: the job's name, where the server is, and the job's description."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union

from autolrs._saved import SavedSchedule, line_of

OptionValue = Union[float, int, bool, str, "os.PathLike[str]", SavedSchedule]

ENV_SERVER = "AUTOLRS_SERVER"
ENV_TOKEN = "AUTOLRS_TOKEN"
DEFAULT_SERVER = "127.0.0.1:7461"

# Jupyter's server says here which notebook a kernel belongs to; these programs are kernels.
ENV_NOTEBOOK = "JPY_SESSION_NAME"
_KERNELS = ("ipykernel_launcher", "ipykernel", "colab_kernel_launcher")

JOB_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62})\Z")

ON_OUTAGE = ("auto", "fallback", "raise")


@dataclass(frozen=True)
class Request:
    """Everything that opening a session needs, except a checkpoint."""

    server: str
    token: str | None = field(repr=False)
    ca: str | None
    job: str
    spec: Mapping[str, object]
    on_outage: str
    connect_timeout: float
    decision_timeout: float
    switch_every: int
    validate: bool
    restart: bool
    takeover: bool


def server_address(server: str | None) -> str:
    """The server's URL: the argument, else the environment, else where `autolrs serve` listens by default."""
    address = server or os.environ.get(ENV_SERVER) or DEFAULT_SERVER
    return address if "://" in address or address.startswith("unix:") else f"http://{address}"


def token_of(token: str | None) -> str | None:
    """The bearer token, from the argument or the environment; None sends none."""
    return token or os.environ.get(ENV_TOKEN) or None


def path_of(path: str | os.PathLike[str] | None) -> str | None:
    """A path as text; None for none."""
    return None if path is None else os.fspath(path)


def job_name(job: str | None) -> str:
    """The job's name: the given one, checked, or `<script>-<time>`."""
    if job is None:
        return default_job_name(_script(), time.time())
    if not JOB_NAME.match(job):
        raise ValueError(
            f"job={job!r} is not a job name: use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit."
        )
    return job


def _script() -> str:
    """What is being run: a notebook's name, or what Python was started with."""
    started = sys.argv[0] if sys.argv else ""
    if Path(started).stem in _KERNELS or (Path(started).stem == "__main__" and Path(started).parent.name in _KERNELS):
        return os.environ.get(ENV_NOTEBOOK) or "notebook"
    return started


def default_job_name(script: str, now: float) -> str:
    """`<script>-<time>` with what is not allowed in a name left out, `now` in seconds since 1970 (UTC)."""
    path = Path(script)
    # `python -m package` runs package/__main__.py; `-c` and `-` name no file.
    name = "" if script in ("-", "-c") else path.parent.name if path.stem == "__main__" else path.stem
    stem = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-")[:40]
    clock = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{stem or 'job'}-{clock}-{int(now * 1000) % 1000:03d}"


def describe(
    *,
    total_steps: int | None,
    expected_steps: int | None,
    policy: str,
    options: Mapping[str, OptionValue] | None,
    lr_range: tuple[float, float] | None,
    fallback_lr: float,
    seed: int,
    loss_lower_bound: float | None,
    max_overhead: float | None,
    guard: bool | None,
    labels: Mapping[str, str] | None,
) -> dict[str, object]:
    """The job's description with only the fields that were set: the server fills in and checks the rest."""
    spec: dict[str, Any] = {
        "policy": policy,
        "fallback_lr": float(fallback_lr),
        "seed": int(seed),
        "loss_lower_bound": None if loss_lower_bound is None else float(loss_lower_bound),
    }
    if total_steps is not None:
        spec["total_steps"] = int(total_steps)
    # None with "replay": as many as its schedule has.
    if expected_steps is not None or (total_steps is None and policy != "replay"):
        spec["open_budget"] = {} if expected_steps is None else {"expected_steps": int(expected_steps)}
    if lr_range is not None:
        spec["lr_min"], spec["lr_max"] = float(lr_range[0]), float(lr_range[1])
    if max_overhead is not None:
        spec["max_overhead"] = float(max_overhead)
    if guard is not None:
        spec["guard"] = bool(guard)
    if labels:
        spec["labels"] = dict(labels)
    if options:
        spec["options"] = {name: _native(value) if name == "schedule" else value for name, value in options.items()}
    return spec


def budget_of(spec: Mapping[str, object]) -> int | None:
    """The budget in steps that the job was described with; None if it has no known end."""
    total, options = spec.get("total_steps"), spec.get("options")
    if total is None and spec["policy"] == "replay" and isinstance(options, dict):
        total = getattr(options.get("schedule"), "steps", None)
    return total if isinstance(total, int) else None


def _native(value: object) -> object:
    """The option `schedule`, as the native session takes it."""
    return line_of(value) if isinstance(value, (str, os.PathLike, SavedSchedule)) else value
