"""Our Python clients keep what the conformance kit checks of a client; one made to break a promise is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from serving import ROOT, server_binary

NATIVE = ROOT / "python-client/examples/conformance.py"
FROM_PROTO = ROOT / "tests/python/protocol/conformance.py"


def conformance(program: object, fault: str = "", only: str | None = None) -> dict[str, str]:
    """The outcome of every check, by name."""
    command = [str(server_binary()), "conformance", "--client", "--output", "json"]
    command += ["--only", only] if only else []
    environment = {**os.environ, "TOY_FAULT": fault}
    ran = subprocess.run(
        [*command, "--", sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False
    )
    outcomes = {check["name"]: check["outcome"] for check in json.loads(ran.stdout)["checks"]}
    assert ran.returncode == int("fail" in outcomes.values()), ran.stderr
    assert set(outcomes.values()) == {"pass"} or fault, ran.stdout
    return outcomes


def listed() -> set[str]:
    """The names of all checks of clients."""
    command = [str(server_binary()), "conformance", "--client", "--list", "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return {check["name"] for check in json.loads(ran.stdout)["checks"]}


@pytest.mark.parametrize("program", [NATIVE, FROM_PROTO])
def test_our_clients_keep_every_promise(program: object) -> None:
    assert conformance(program).keys() == listed()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("late lr", "lr-pieces"),
        ("no restore", "slots"),
        ("slots backwards", "slots"),
        ("number for nan", "non-finite"),
        ("one loss less", "stop-rules"),
        ("wrong validation", "validations"),
        ("no retry", "unavailable"),
        ("another nonce", "lost-opening"),
        ("no nonce", "lost-opening"),
        ("passes rungs", "rungs"),
        ("no interrupt", "interrupt"),
        ("no resend", "forgetful-server"),
        ("never mind the stop", "fallback-on-stop"),
        ("no fallback", "fallback"),
        ("speaks after a refusal", "fenced"),
    ],
)
def test_a_client_that_breaks_a_promise_is_found_out(fault: str, check: str) -> None:
    assert conformance(FROM_PROTO, fault, check) == {check: "fail"}
