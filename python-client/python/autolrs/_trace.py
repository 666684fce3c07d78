"""Which trace a training is part of: what OpenTelemetry says, where the user's process has it, else the environment."""

from __future__ import annotations

import os
import sys

# W3C's, as tools that start processes hand it on.
ENV_TRACEPARENT = "TRACEPARENT"


def traceparent() -> str | None:
    """`00-<trace>-<span>-<flags>` of the current span, else TRACEPARENT, else None.

    Who has a span has imported OpenTelemetry: it is not imported for those who have none."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is not None:
        span = opentelemetry.get_current_span().get_span_context()
        if span.is_valid:
            return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    return os.environ.get(ENV_TRACEPARENT) or None
