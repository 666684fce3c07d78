"""The Helm chart, rendered by the real helm."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/autolrs"
VALUES = sorted((Path(__file__).parent / "values").glob("*.yaml"))
TOOLS = ROOT / "target/tools/bin"
NAMESPACE = "training"

Document = dict[str, Any]


def tool(name: str) -> str:
    path = TOOLS / name
    if not path.exists():
        pytest.fail(f"{path} is missing: make target/tools/bin/helm")
    return str(path)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60)


@dataclass(frozen=True)
class Rendered:
    """What `helm template` makes of the chart."""

    documents: list[Document]

    def all(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def one(self, kind: str) -> Document:
        (found,) = self.all(kind)
        return found

    @property
    def pod(self) -> Document:
        spec: Document = self.one("StatefulSet")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Document:
        (only,) = self.pod["containers"]
        return dict(only)

    @property
    def flags(self) -> dict[str, str]:
        """The container's `--name=value` arguments; a switch has no value."""
        pairs = (argument.partition("=") for argument in self.container["args"][1:])
        return {name: value for name, _, value in pairs}


@cache
def render(*arguments: str) -> Rendered:
    """With the given arguments; the release is called autolrs."""
    done = helm("template", "autolrs", str(CHART), "--namespace", NAMESPACE, *arguments)
    assert done.returncode == 0, done.stderr
    return Rendered(list(yaml.safe_load_all(done.stdout)))


def with_values(name: str) -> Rendered:
    """With a file of tests/deploy/values."""
    return render("--values", str(Path(__file__).parent / f"values/{name}.yaml"))
