"""The trainings that have been run, a JSON object per line, so that a benchmark can be broken off and gone on with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


class Rows:
    """The rows of one file; `names` are the values that tell two of them apart. The last of equal ones counts."""

    def __init__(self, path: Path, names: Key = ("task", "policy", "lr", "budget", "seed", "final")) -> None:
        self._path, self._names = path, names
        lines = path.read_text().splitlines() if path.exists() else []
        self._rows = {self._key(row): row for row in map(json.loads, lines)}
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        self._commit = head.stdout.strip() or "no commit"

    def __contains__(self, wanted: Key) -> bool:
        return wanted in self._rows

    def __iter__(self) -> Any:
        return iter(self._rows.values())

    def add(self, row: Row) -> None:
        """Keeps a row."""
        row = {**row, "commit": self._commit}
        self._rows[self._key(row)] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as out:
            out.write(json.dumps(row) + "\n")

    def some(self, **wanted: Any) -> list[Row]:
        """The rows with these values."""
        return [row for row in self if all(row[name] == value for name, value in wanted.items())]

    def _key(self, row: Row) -> Key:
        return tuple(row[name] for name in self._names)
