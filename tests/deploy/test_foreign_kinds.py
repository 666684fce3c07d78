"""The objects for the Prometheus operator and for cert-manager, against the schemas of those."""

from __future__ import annotations

import json
import subprocess

from chart import ROOT, Document, with_values

MODELS = ROOT / "target/tools/crds"


def judge(*objects: Document) -> str:
    """What is wrong with them."""
    command = ["node", str(ROOT / "tests/deploy/foreign.mjs"), str(MODELS)]
    judged = subprocess.run(command, input=json.dumps(objects), capture_output=True, text=True, timeout=60)
    assert (judged.returncode == 0) == (judged.stderr == "")
    return judged.stderr


def test_they_fit_the_schemas() -> None:
    monitor = with_values("service-monitor").one("ServiceMonitor")
    certificate = with_values("cert-manager").one("Certificate")
    assert judge(monitor, certificate) == ""
    # And the judges do judge.
    late = {**monitor, "spec": {**monitor["spec"], "endpoints": [{"port": "http", "interval": "5 min"}]}}
    unsigned = {**certificate, "spec": {**certificate["spec"], "issuerRef": None}}
    assert "interval" in judge(late)
    assert "issuerRef" in judge(unsigned)
