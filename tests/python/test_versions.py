"""One version: the workspace's, in every crate, in the package, in the binary, and in what deploys them."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, server_binary

import autolrs


@cache
def metadata() -> dict[str, Any]:
    command = ["cargo", "metadata", "--no-deps", "--format-version=1"]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return found


def workspace_version() -> str:
    """`version` in the table workspace.package of Cargo.toml: the one place where it is written."""
    found = re.search(r'^\[workspace\.package\]\nversion = "([^"]+)"$', (ROOT / "Cargo.toml").read_text(), re.M)
    assert found is not None
    return found[1]


def test_every_crate_has_it() -> None:
    packages = metadata()["packages"]
    assert {package["name"]: package["version"] for package in packages} == dict.fromkeys(
        [package["name"] for package in packages], workspace_version()
    )
    for package in packages:
        assert "\nversion.workspace = true\n" in Path(package["manifest_path"]).read_text(), package["name"]


def test_crates_ask_for_each_other_at_it() -> None:
    packages = metadata()["packages"]
    needs = [(package["name"], need) for package in packages for need in package["dependencies"] if need.get("path")]
    # A crate's tests may depend on the crate itself, with other features.
    asked = [need for name, need in needs if need["name"] != name]
    assert asked
    assert {need["req"] for need in asked} == {f"^{workspace_version()}"}


@pytest.mark.parametrize("name", ["autolrs-proto", "autolrs-core", "autolrs-client"])
def test_crates_that_are_published_say_what_they_are(name: str) -> None:
    (package,) = [package for package in metadata()["packages"] if package["name"] == name]
    folder = Path(package["manifest_path"]).parent
    for field in ("description", "license", "repository", "readme", "rust_version", "keywords", "categories"):
        assert package[field], field
    assert package["license"] == "Apache-2.0" and (folder / package["readme"]).is_file()
    command = ["cargo", "package", "--list", "--allow-dirty", "--offline", "--package", name]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"Cargo.toml", "LICENSE", "README.md", "src/lib.rs"} <= set(listed)
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    modules = {str(path.relative_to(folder)) for path in (folder / "src").rglob("*.rs")}
    assert modules <= set(listed)


def test_the_package_has_it() -> None:
    assert autolrs.__version__ == workspace_version()
    project = (ROOT / "python-client/pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project and not re.search(r"^version *=", project, re.M)
    try:
        assert version("autolrs") == workspace_version()
    except PackageNotFoundError:
        pytest.skip("the package is imported from its folder, not installed")


def test_the_binary_has_it() -> None:
    printed = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    assert printed.split()[:2] == ["autolrs", workspace_version()]


def test_what_deploys_it_has_it() -> None:
    """Every image of ours that a file in deploy/ names; a chart's version and appVersion."""
    files = [path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file()]
    tags = [
        (str(path.relative_to(ROOT)), tag)
        for path in files
        for tag in re.findall(r"\bautolrs:(\d+\.[\w.+-]*\w)", path.read_text(errors="ignore"))
    ]
    assert {name for name, _ in tags} >= {"deploy/Containerfile", "deploy/README.md"}
    assert not [(name, tag) for name, tag in tags if tag != workspace_version()]
    for chart in (path for path in files if path.name == "Chart.yaml"):
        stated = re.findall(r'^(?:version|appVersion): *"?([^"\s]+)"?$', chart.read_text(), re.M)
        assert stated == [workspace_version()] * 2, chart


def test_the_changelog_has_it() -> None:
    """Either released under this version, or announced as the next."""
    log = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d[^\]]*)\]", log, re.M)
    announced = re.search(r"^This will be (\d\S*\d)[,.]", log, re.M)
    assert workspace_version() in [*released[:1], *([announced[1]] if announced else [])]
