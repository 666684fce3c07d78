"""A real Prometheus with the rules of deploy/prometheus, scraping a server every second."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from serving import ROOT
from started import free_port

RULES = ROOT / "deploy/prometheus"
# Longer than any alert's `for` that is waited for.
DEADLINE = 150.0
Sample = dict[str, Any]


class Prometheus:
    """Asks one over its HTTP interface."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **parameters: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Sample]:
        """The samples of an instant query: {"metric": labels, "value": [time, text]}."""
        return list(self.get("query", query=expression)["result"])

    def wait(self, expression: str, met: Callable[[list[Sample]], object] = bool) -> list[Sample]:
        """The first answer that is as it should be; any but an empty one unless told otherwise."""
        end = time.monotonic() + DEADLINE
        while True:
            samples = self.query(expression)
            if met(samples):
                return samples
            assert time.monotonic() < end, f"{expression} is {samples}"
            time.sleep(0.2)


@contextmanager
def prometheus(target: str, directory: Path) -> Iterator[Prometheus]:
    """Debian's Prometheus, which scrapes `target` as the job autolrs."""
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "rules.yaml"), str(RULES / "alerts.yaml")],
        "scrape_configs": [{"job_name": "autolrs", "static_configs": [{"targets": [target]}]}],
    }
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    log = directory / "prometheus.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=stderr)
    try:
        asked = Prometheus(port)
        end = time.monotonic() + DEADLINE
        while True:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            try:
                asked.query("1")
                break
            except OSError:  # of which a URLError is one
                time.sleep(0.1)
        yield asked
    finally:
        process.kill()
        process.wait()
