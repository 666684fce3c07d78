"""The pages for people are true to the tree: the files, tests, make targets and settings that they name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "ARCHITECTURE.md", "deploy/README.md", "python-client/README.md", "python-client/MIGRATION.md")
# The top folders of the repository: a word in code that starts with one is a path.
TOP = ("proto/", "server/", "client-rs/", "python-client/", "deploy/", "tests/")


def text(page: str) -> str:
    return (ROOT / page).read_text()


def code(page: str) -> list[str]:
    """What stands between single back-ticks outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text(page), flags=re.M | re.S))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", text(page))
    missing = [t for t in targets if not t.startswith("http") and not (ROOT / page).parent.joinpath(t).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    paths = [word.partition("::")[0] for word in code(page) if word.startswith(TOP) and " " not in word]
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_tests_exist(page: str) -> None:
    tests = [word.split("::") for word in code(page) if word.startswith(TOP) and "::" in word]
    missing = [f"{path}::{name}" for path, name in tests if not re.search(rf"\b(fn|def) {name}\b", text(path))]
    assert not missing
    assert tests or page != "ARCHITECTURE.md"


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    targets = {word.split()[1] for word in code(page) if re.fullmatch(r"make [a-z-]+", word)}
    assert not [target for target in targets if not re.search(rf"^{target}:", text("Makefile"), re.M)]


SOURCES = "python-client/python/autolrs"


def keywords(module: str, name: str) -> set[str]:
    """What can be given by name when the class is called; for `**options`, what the schedules have in common."""
    found = next(
        node
        for node in ast.parse(text(f"{SOURCES}/{module}.py")).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    init = next((node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    if init is None:  # a TypedDict
        return {node.target.id for node in found.body if isinstance(node, ast.AnnAssign) and hasattr(node.target, "id")}
    shared = keywords("_options", "Options") if init.args.kwarg is not None else set()
    return {argument.arg for argument in init.args.args + init.args.kwonlyargs} | shared


@pytest.mark.parametrize("page", ["README.md", "python-client/README.md"])
def test_the_python_examples_use_what_exists(page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", text(page), re.M | re.S)
    made = 0
    for block in blocks:
        named = re.search(r"^import autolrs\.(\w+) as autolrs", block, re.M)
        known = {
            "Schedule": keywords(named[1] if named else "torch", "Schedule"),
            "Session": keywords("_any_loop", "Session"),
        }
        calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
        for call in calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr in known:
                made += 1
                assert {keyword.arg for keyword in call.keywords} <= known[call.func.attr]
    assert made
