"""The reference of the Python package as HTML: `make docs`.

    python python-client/docs/build.py FOLDER

Renders every public module, that is every file of the package without a leading underscore, with pdoc. A module whose
framework is not installed is named and left out. What pdoc warns of, such as an annotation that can't be evaluated, and
a reference in a docstring to something that does not exist are errors.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

# Keras would ask for TensorFlow, which the adapter does not know.
os.environ.setdefault("KERAS_BACKEND", "torch")

PACKAGE = Path(__file__).resolve().parents[1] / "python/autolrs"

# `schedule.finish()`, `autolrs.replay`, `steps(loader)`: dotted names in back-ticks, and calls.
_REFERENCE = re.compile(r"`([A-Za-z_][\w.]*)(\([^`]*\))?`")


def module_names() -> list[str]:
    """The public modules of the package, itself first."""
    found = [path.stem for path in sorted(PACKAGE.glob("[!_]*.py"))]
    return ["autolrs", *(f"autolrs.{name}" for name in found)]


def import_public(name: str) -> ModuleType | None:
    """The module, or None if it needs a framework that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "autolrs":
            raise
        return None


def public_members(kind: type) -> dict[str, Any]:
    """The public methods and properties of a class that are defined in this package, inherited ones included; without
    the hooks of a framework's callback, which the framework explains."""
    members: dict[str, Any] = {}
    hooks: set[str] = set()
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "autolrs":
            members.update({name: value for name, value in vars(base).items() if not name.startswith("_")})
        else:
            hooks.update(vars(base))
    return {name: value for name, value in members.items() if name not in hooks}


def documented(module: ModuleType) -> Iterator[tuple[str, type | None, Any]]:
    """Everything in the module's reference as (name, class that it belongs to, object), the module itself first."""
    yield module.__name__, None, module
    for name in module.__all__:
        value = getattr(module, name)
        yield f"{module.__name__}.{name}", value if isinstance(value, type) else None, value
        if isinstance(value, type):
            for member, content in public_members(value).items():
                yield f"{module.__name__}.{name}.{member}", value, content


def broken_references(module: ModuleType) -> list[str]:
    """References to things of this package that are not there, each with the place of its docstring."""
    return [
        f"{place}: `{dotted}{call}`"
        for place, owner, value in documented(module)
        for dotted, call in _REFERENCE.findall(docstring(value))
        if not _resolves(dotted, bool(call), module, owner, value)
    ]


def docstring(value: object) -> str:
    """The docstring of a module, class, function or property; "" for a plain value."""
    explains = inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value)
    return (value.__doc__ or "") if explains or isinstance(value, property) else ""


def _resolves(dotted: str, call: bool, module: ModuleType, owner: type | None, value: object) -> bool:
    first, *rest = dotted.split(".")
    if first == "autolrs":
        # `import autolrs.torch as autolrs`: in a framework's module the name stands for it.
        return any(_has(start, rest) for start in (importlib.import_module("autolrs"), module)) or _is_module(dotted)
    named = [kind for kind in _classes() if kind.__name__.lower().endswith(first.lower())]
    if rest and named:  # `Schedule.finish`, `schedule.finish()`
        return any(_has(kind, rest) for kind in named)
    if not rest and call:  # `finish()`
        everywhere = [owner, module, *_classes(), builtins]
        return any(hasattr(start, first) for start in everywhere) or first in parameters(value)
    return True  # another library's, a parameter, a piece of code


def parameters(value: object) -> list[str]:
    """What a function, or the constructor of a class, can be given; nothing for an exception."""
    function = value.__init__ if isinstance(value, type) else value  # type: ignore[misc]
    if not inspect.isfunction(function) or (isinstance(value, type) and issubclass(value, BaseException)):
        return []
    return [name for name in inspect.signature(function).parameters if name != "self"]


@cache
def _classes() -> list[type]:
    """The classes of all public modules that are there."""
    modules = [module for module in map(import_public, module_names()) if module is not None]
    values = [getattr(module, name) for module in modules for name in module.__all__]
    return [value for value in values if isinstance(value, type)]


def _has(start: object, names: list[str]) -> bool:
    for name in names:
        if not hasattr(start, name):
            return False
        start = getattr(start, name)
    return True


def _is_module(dotted: str) -> bool:
    """Whether it is a public module, or something in one; where the framework is missing any name will do."""
    known = module_names()
    parts = dotted.split(".")
    for length in range(len(parts), 1, -1):
        name = ".".join(parts[:length])
        if name in known:
            found = import_public(name)
            return found is None or _has(found, parts[length:])
    return False


def main(out: Path) -> None:
    """Renders into `out`, or ends with what is wrong."""
    import pdoc

    found = {name: import_public(name) for name in module_names()}
    absent = [name for name, module in found.items() if module is None]
    broken = [line for module in found.values() if module is not None for line in broken_references(module)]
    if broken:
        sys.exit("References to what does not exist:\n" + "\n".join(broken))
    for module in found.values():
        if module is not None:  # pdoc does not ask for names that a module imports at their first use
            vars(module).update({name: getattr(module, name) for name in module.__all__})
    warnings.simplefilter("error")
    pdoc.render.configure(docformat="numpy", show_source=False, search=True)
    pdoc.pdoc(*(name for name, module in found.items() if module is not None), output_directory=out)
    print(f"{out / 'index.html'}: {', '.join(name for name in found if name not in absent)}")
    if absent:
        print(f"left out, their frameworks are not installed: {', '.join(absent)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
