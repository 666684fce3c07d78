"""The toy problem of `autolrs conformance --client`, described in `proto/README.md`.

autolrs conformance --client -- python python-client/examples/conformance.py
"""

from __future__ import annotations

import os
import time

import autolrs

state = {"weight": 1.0}

with autolrs.Session(
    lambda: dict(state),
    state.update,
    total_steps=1000,
    fallback_lr=0.1,
    lr_range=(1e-3, 1.0),
    validate=lambda: state["weight"],
    job=os.environ["AUTOLRS_JOB"],
    decision_timeout=float(os.environ.get("AUTOLRS_DECISION_TIMEOUT", "120")),
) as session:
    pause = float(os.environ.get("AUTOLRS_STEP_SECONDS", "0"))
    # The batch is its number: the loader is asked again from where the service wants it.
    for batch in session.steps(lambda position: iter(range(position, 1_000_000))):
        time.sleep(pause)
        weight = state["weight"]
        loss = float("nan") if weight > 1e6 else weight + batch / 1000
        state["weight"] = weight + session.lr
        session.step(loss)
