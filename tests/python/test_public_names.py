"""The public names are the documented ones: in `__all__`, in the reference, in the stub of the native module."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT


def load_builder() -> ModuleType:
    """python-client/docs/build.py, which knows what is public."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "python-client/docs/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()
MODULES: list[str] = BUILDER.module_names()


def public(name: str) -> ModuleType:
    module = BUILDER.import_public(name)
    if module is None:
        pytest.skip(f"the framework of {name} is not installed")
    assert isinstance(module, ModuleType)
    return module


def test_the_package_and_its_first_framework_are_public() -> None:
    assert {"autolrs", "autolrs.torch"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_all_is_what_is_public(name: str) -> None:
    """`__all__` is sorted, every name in it exists, and what the module itself defines is in it or begins with `_`."""
    module = public(name)
    assert module.__all__ == sorted(set(module.__all__))
    assert [each for each in module.__all__ if not hasattr(module, each)] == []
    own = [each for each, value in vars(module).items() if getattr(value, "__module__", None) == name]
    assert [each for each in own if not each.startswith("_") and each not in module.__all__] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_thing_is_explained(name: str) -> None:
    """A docstring each, which speaks of every parameter."""
    missing, silent = [], []
    for place, _, value in BUILDER.documented(public(name)):
        if isinstance(value, (str, int, float)):
            continue
        text = (
            BUILDER.docstring(value) if not isinstance(value, (staticmethod, classmethod)) else value.__func__.__doc__
        )
        if not text and not is_field(value):
            missing.append(place)
        silent += [
            f"{place}({each})" for each in BUILDER.parameters(value) if not re.search(rf"\b{each}\b", text or "")
        ]
    assert missing == []
    assert silent == []


def is_field(value: object) -> bool:
    """A field of a named tuple: its class explains it."""
    return type(value).__name__ in ("_tuplegetter", "member_descriptor")


@pytest.mark.parametrize("name", MODULES)
def test_references_lead_somewhere(name: str) -> None:
    assert BUILDER.broken_references(public(name)) == []


def test_a_reference_that_leads_nowhere_is_found() -> None:
    module = ModuleType(
        "autolrs.invented", "See `autolrs.Nothing`, `Schedule.nowhere`, `schedule.finish()` and `vanish(now)`."
    )
    module.__all__ = []  # type: ignore[attr-defined]
    place = "autolrs.invented"
    assert BUILDER.broken_references(module) == [
        f"{place}: `{each}`" for each in ("autolrs.Nothing", "Schedule.nowhere", "vanish(now)")
    ]


def test_the_exceptions_are_the_tree_that_is_drawn() -> None:
    import autolrs._exceptions as exceptions

    drawn = re.findall(r"^[│ ]*(?:[├└]── )?([A-Z]\w+)(?: {2,}\S|$)", exceptions.__doc__ or "", re.M)
    errors = [name for name in exceptions.__all__ if issubclass(getattr(exceptions, name), exceptions.Error)]
    assert sorted(drawn) == sorted(errors)


def test_the_reference_shows_them(tmp_path: Path) -> None:
    """What pdoc renders of each module are the names in its `__all__`."""
    pytest.importorskip("pdoc")
    command = [sys.executable, str(ROOT / "python-client/docs/build.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rendered = 0
    for name in MODULES:
        module = BUILDER.import_public(name)
        if module is None:
            continue
        page = (tmp_path / (name.replace(".", "/") + ".html")).read_text()
        shown = set(re.findall(r'<section id="(\w+)"', page))
        assert shown == set(module.__all__), name
        rendered += 1
    assert rendered >= 2


def test_the_stub_is_the_native_module() -> None:
    """mypy's stubtest compares names, signatures and kinds with the module that is loaded."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy.stubtest", "autolrs._core", "--mypy-config-file", "pyproject.toml"]
    command += ["--ignore-disjoint-bases"]
    done = subprocess.run(command, cwd=ROOT / "python-client", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_py_typed_is_there() -> None:
    import autolrs

    assert Path(inspect.getfile(autolrs)).with_name("py.typed").exists()
