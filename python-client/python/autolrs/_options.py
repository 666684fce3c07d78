"""The keywords that the schedules of all frameworks share, described once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from autolrs._spec import ON_OUTAGE, OptionValue, Request, describe, job_name, path_of, server_address, token_of

if TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack

# Seconds to wait for the server at the start, and for a decision, unless it is said.
CONNECT_TIMEOUT = 10.0
DECISION_TIMEOUT = 120.0

# Policies that try LRs and so need a range of them.
SEARCHING_POLICIES = ("scan", "paper", "staged")

Documented = TypeVar("Documented", bound=type)


class Options(TypedDict, total=False):
    """
    expected_steps : int, optional
        With an unknown budget: a guess, from which the search takes its length.
    job : str, optional
        Name of the run, `[a-z0-9]([a-z0-9._-]{0,62})`; default `<script>-<time>`. Name a run to resume it.
    server, token : str, optional
        Address (http://, https:// or unix:/path) and bearer token of the service; default AUTOLRS_SERVER
        (else 127.0.0.1:7461) and AUTOLRS_TOKEN.
    ca : path, optional
        With https://: a PEM file with the authorities that may have signed the server's certificate; default
        AUTOLRS_CA, else the system's. AUTOLRS_CERT and AUTOLRS_KEY are for a server that asks for a client's.
    policy : str
        "scan" (default: searches once, holds, cools down), "staged" (searches again and again, for runs whose
        best LR drifts), "paper" (AutoLRS as published), or a plain schedule: "constant", "cosine",
        "wsd", "step", "one_cycle", "clr", "sgdr"; or "replay", the LRs of
        `options={"schedule": "schedule.json"}`, an exported schedule.
    options : mapping, optional
        Options of the policy, for instance `{"warmup_steps": 500}`.
    seed : int
        Seed of the search's own choices.
    loss_lower_bound : float or None
        A value that the loss can't go below, default 0; None if there is none.
    max_overhead : float, optional
        Largest share of the budget for the search; default the policy's.
    guard : bool, optional
        Whether a committed stretch that breaks is rolled back; default yes.
    labels : mapping of str to str, optional
        Shown with the job.
    on_outage : "auto", "fallback" or "raise"
        Without a server at the start: "fallback" trains with `fallback_lr`, the others raise. When it stops
        answering later: "raise" raises after `decision_timeout`, the others go on with the planned fallback.
    connect_timeout, decision_timeout : float
        Seconds to wait for the server at the start (10), and for a decision (120).
    restart : bool
        Begin again although the job has progressed or finished.
    takeover : bool
        Train although another process that seems alive does.
    """

    expected_steps: int | None
    job: str | None
    server: str | None
    token: str | None
    ca: str | os.PathLike[str] | None
    policy: str
    options: Mapping[str, OptionValue] | None
    seed: int
    loss_lower_bound: float | None
    max_overhead: float | None
    guard: bool | None
    labels: Mapping[str, str] | None
    on_outage: str
    connect_timeout: float
    decision_timeout: float
    restart: bool
    takeover: bool


def with_options(schedule: Documented) -> Documented:
    """Appends the shared keywords to the parameters in a schedule's docstring."""
    schedule.__doc__ = f"{(schedule.__doc__ or '').rstrip()}{(Options.__doc__ or '').rstrip()}\n    "
    return schedule


def searches(options: Options) -> bool:
    """Whether the policy tries LRs."""
    return options.get("policy", "scan") in SEARCHING_POLICIES


def request_of(
    options: Options,
    *,
    total_steps: int | None,
    lr_range: tuple[float, float] | None,
    fallback_lr: float,
    validate: bool,
    switch_every: int,
    resume: Mapping[str, Any] | None,
) -> Request:
    """What the keywords ask for; the job's name is the checkpoint's if there is one and no other is given."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"unexpected keyword {', '.join(unknown)}; known are {', '.join(Options.__annotations__)}")
    on_outage = options.get("on_outage", "auto")
    check_choice("on_outage", on_outage, ON_OUTAGE)
    name = options.get("job")
    return Request(
        server=server_address(options.get("server")),
        token=token_of(options.get("token")),
        ca=path_of(options.get("ca")),
        job=resume["job"] if resume is not None and name is None else job_name(name),
        spec=describe(
            total_steps=total_steps,
            expected_steps=options.get("expected_steps"),
            policy=options.get("policy", "scan"),
            options=options.get("options"),
            lr_range=lr_range,
            fallback_lr=fallback_lr,
            seed=options.get("seed", 0),
            loss_lower_bound=options.get("loss_lower_bound", 0.0),
            max_overhead=options.get("max_overhead"),
            guard=options.get("guard"),
            labels=options.get("labels"),
        ),
        on_outage=on_outage,
        connect_timeout=options.get("connect_timeout", CONNECT_TIMEOUT),
        decision_timeout=options.get("decision_timeout", DECISION_TIMEOUT),
        switch_every=switch_every,
        validate=validate,
        restart=options.get("restart", False),
        takeover=options.get("takeover", False),
    )


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
