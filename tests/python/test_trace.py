"""A training's requests are part of the trace that its process is in: the server's log names it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from numpy_trainer import Trainer, open_session
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from serving import Server

OURS = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, True, TraceFlags(TraceFlags.SAMPLED))
THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOLRS_LOG_FORMAT", "json")
        running.start()
    yield running
    running.kill()


def traces(server: Server, job: str) -> set[str]:
    """What the server's lines about a session name."""
    lines = [json.loads(line) for line in server.log().splitlines()]
    opened = [line for line in lines if line["message"] == "session opened" and line["job"].endswith(f"/{job}")]
    assert opened
    return {span["trace_id"] for line in opened for span in line["spans"] if "trace_id" in span}


def train(server: Server, job: str) -> set[str]:
    with open_session(Trainer(), server.address, job):
        pass
    return traces(server, job)


def test_the_current_span_then_the_environment_then_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEPARENT", raising=False)
    assert train(server, "alone") == set()
    monkeypatch.setenv("TRACEPARENT", THEIRS)
    assert train(server, "started") == {"0af7651916cd43dd8448eb211c80319c"}
    with use_span(NonRecordingSpan(OURS)):
        assert train(server, "within") == {"4bf92f3577b34da6a3ce929d0e0e4736"}


def test_a_malformed_one_fails_no_training(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", "00-zz-\n-01")
    assert train(server, "malformed") == set()
