"""Metrics, alerts and dashboard in front of the real thing: Debian's Prometheus scrapes the real server, which real
trainings use. Whether Grafana draws the dashboard nicely is not seen here: that it is one by Grafana's own types is,
and that Prometheus answers every question in it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from numpy_trainer import Trainer, batches, open_session
from prometheus import RULES, Prometheus, prometheus
from serving import ROOT, server_binary
from started import free_port, running

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/autolrs.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
RULE_FILES = {name: yaml.safe_load((RULES / name).read_text()) for name in ("rules.yaml", "alerts.yaml")}
ALERTS = {rule["alert"]: rule for group in RULE_FILES["alerts.yaml"]["groups"] for rule in group["rules"]}
# A metric of ours in a query, with what it is narrowed down to.
SELECTOR = re.compile(r"\b((?:instance:)?(?:autolrs|grpc_server|process)_\w+(?::\w+)?|up)\b(\{[^}]*\})?")


def expressions() -> Iterator[str]:
    for rules in RULE_FILES.values():
        for group in rules["groups"]:
            yield from (rule["expr"] for rule in group["rules"])


class Trainings:
    """Trainings one after the other, of several policies at once, until told to end."""

    def __init__(self, address: str, policies: list[str]) -> None:
        self._end = threading.Event()
        self.failures: list[BaseException] = []
        arguments = [(address, policy) for policy in policies]
        self._threads = [threading.Thread(target=self._run, args=pair) for pair in arguments]

    def __enter__(self) -> Trainings:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, address: str, policy: str) -> None:
        number = 0
        try:
            while not self._end.is_set():
                number += 1
                trainer = Trainer()
                with open_session(trainer, address, f"{policy}-{number}", policy=policy) as session:
                    for batch in session.steps(batches):
                        session.step(trainer.step(batch, session.lr))
        except BaseException as failure:
            self.failures.append(failure)


class Stack:
    """The server, those who train with it, and the Prometheus that watches it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.grpc, self.http = free_port(), free_port()
        listen = ["--listen", f"127.0.0.1:{self.grpc}", "--http-listen", f"127.0.0.1:{self.http}"]
        self.command = [str(server_binary()), "serve", *listen, "--data-dir", str(directory / "store")]

    def serving(self) -> Any:
        return running(self.command, self.grpc, self.directory)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    return Stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def watched(stack: Stack) -> Iterator[Prometheus]:
    """Prometheus, once two kinds of training have gone on for some scrapes."""
    with (
        stack.serving(),
        Trainings(f"http://127.0.0.1:{stack.grpc}", ["scan", "wsd"]) as trainings,
        prometheus(f"127.0.0.1:{stack.http}", stack.directory) as asked,
    ):
        for policy in ("scan", "wsd"):
            decided = f'rate(autolrs_decisions_total{{policy="{policy}"}}[15s]) > 0'
            asked.wait(decided, lambda samples: samples or trainings.failures)
            assert not trainings.failures
        asked.wait('sum(autolrs_jobs_ended_total{state="finished"}) > 1')
        asked.wait("autolrs_store_size_bytes > 0")
        # What goes wrong every day: somebody asks for a job that is not there.
        address = f"http://127.0.0.1:{stack.grpc}"
        nobody = subprocess.run(
            [str(server_binary()), "jobs", "show", "nobody", "--server", address], stderr=subprocess.DEVNULL
        )
        assert nobody.returncode == 1
        yield asked
        assert not trainings.failures


def test_the_rules_are_rules() -> None:
    for command in (["check", "rules", "rules.yaml", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = subprocess.run(["promtool", *command], cwd=RULES, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert len(alert["annotations"]["summary"]) > 20 and len(alert["annotations"]["runbook"]) > 100
    tested = (RULES / "alerts.test.yaml").read_text()
    assert f'alertname="{name}"' in tested, "alerts.test.yaml makes each of them fire"


def test_commands_in_the_runbooks_exist() -> None:
    runbooks = " ".join(alert["annotations"]["runbook"] for alert in ALERTS.values())
    commands = {tuple(words.split()) for words in re.findall(r"`autolrs ((?:[a-z]+ ?)+)", runbooks)}
    assert len(commands) > 5
    for command in commands:
        done = subprocess.run([str(server_binary()), *command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, f"autolrs {' '.join(command)}: {done.stderr}"


def test_every_metric_of_the_page_is_there(watched: Prometheus) -> None:
    page = (ROOT / "deploy/metrics.md").read_text()
    metrics = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.M)
    assert len(metrics) > 30
    for name, kind in metrics:
        series = f"{name}_bucket" if kind == "histogram" else name
        watched.wait(f"count({series})")


def test_what_the_rules_look_at_is_there(watched: Prometheus) -> None:
    selectors = {match.group() for expression in expressions() for match in SELECTOR.finditer(expression)}
    assert len(selectors) > 15
    for selector in selectors:
        # Codes that nothing has answered yet are no series yet.
        anyhow = re.sub(r', grpc_code=~"[^"]*"', "", selector)
        watched.wait(f"count({anyhow})")


def test_no_alert_of_a_healthy_server(watched: Prometheus) -> None:
    rules = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(list(expressions()))
    assert {(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"} == set()
    assert watched.query('ALERTS{alertstate="firing"}') == []


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboards_queries_are_answered(query: str, watched: Prometheus) -> None:
    asked = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "15s")
    assert "$" not in asked
    # Without TLS the certificate in use is valid for ever, which the panel leaves out.
    anyhow = asked.replace(" < Inf", "")
    for sample in watched.wait(anyhow):
        assert not math.isinf(float(sample["value"][1])) or anyhow != asked, sample


def test_the_dashboards_variables_are_answered(watched: Prometheus) -> None:
    queries = [
        variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"
    ]
    found = [re.fullmatch(r"label_values\((\w+)(?:\{[^}]*\})?, (\w+)\)", query) for query in queries]
    assert len(found) == 2
    for match in found:
        assert match is not None
        assert watched.get(f"label/{match.group(2)}/values", **{"match[]": match.group(1)})


def test_the_dashboard_is_one_by_grafanas_types() -> None:
    """What its types do not know would be lost on the way through them."""
    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    # Written by Grafana itself, and not in its types.
    known = {path for path in lost(DASHBOARD, back) if not path.endswith(".definition")}
    assert known == set()
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "panels overlap"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{path}.{key}") if key in after else [f"{path}.{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{number}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def test_an_alert_fires_when_the_server_is_killed_and_ends_when_it_is_back(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    firing = 'ALERTS{alertname="AutolrsDown", alertstate="firing"}'
    with prometheus(f"127.0.0.1:{stack.http}", tmp_path) as asked:
        with stack.serving():
            asked.wait('up{job="autolrs"} == 1')
        [alert] = asked.wait(firing)
        assert alert["metric"]["severity"] == "critical"
        [told] = [alert for alert in asked.get("alerts")["alerts"] if alert["labels"]["alertname"] == "AutolrsDown"]
        assert told["annotations"]["summary"] == f"The AutoLRS server 127.0.0.1:{stack.http} does not answer."
        with stack.serving():
            asked.wait(firing, lambda samples: not samples)
