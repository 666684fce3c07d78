"""`make soak`: runs autolrs-soak, keeps its rows, draws them, and says how much memory grows after the warm-up.

Usage: soak.py PATH_TO_AUTOLRS_SOAK ROWS.jsonl PICTURE.svg [OPTIONS_OF_AUTOLRS_SOAK...]; without a program (`-`) the
rows that are there are drawn.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

MIB = 2**20
# What comes and goes is in balance when the first jobs have ended and were kept for their time.
WARM_UP = 0.4
PANELS = [
    ("rss", "memory of the server (RSS), MiB", MIB),
    ("disk", "its store on the disk, MiB", MIB),
    ("open_files", "its open files", 1),
    ("decisions", "decisions a second", None),
]


def run(program: str, rows: Path, options: list[str]) -> None:
    """Runs the program; its lines become the file, and are shown on the way."""
    with rows.open("w") as file, subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as soak:
        assert soak.stdout is not None
        for line in soak.stdout:
            file.write(line)
            file.flush()
            print(line, end="", flush=True)
    if soak.returncode != 0:
        raise SystemExit(f"{program} ended with {soak.returncode}")


def slope(t: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """Of the line through the points, by least squares."""
    return float(np.polyfit(t, y, 1)[0])


def main() -> None:
    program, rows, picture, *options = sys.argv[1:]
    if program != "-":
        run(program, Path(rows), options)
    what, *lines = (json.loads(line) for line in Path(rows).read_text().splitlines())
    t = np.array([line["t"] for line in lines])
    warm = t >= WARM_UP * what["seconds"]
    fig, axes = plt.subplots(2, 2, figsize=(11, 6.5), sharex=True, layout="constrained")
    for ax, (name, label, unit) in zip(axes.flat, PANELS):
        y = np.array([line[name] for line in lines], dtype=float)
        if unit is None:
            ax.plot(t[1:], np.diff(y) / np.diff(t), color="tab:blue")
        else:
            ax.plot(t, y / unit, color="tab:blue")
            per_minute = 60 * slope(t[warm], y[warm])
            ax.plot(t[warm], np.polyval(np.polyfit(t[warm], y[warm], 1), t[warm]) / unit, "--", color="tab:red")
            spread = (y[warm].min() / unit, y[warm].max() / unit)
            share = 100 * per_minute / y[warm].mean()
            says = f"{per_minute / unit:+.3f} a minute ({share:+.2f} %), {spread[0]:.1f} to {spread[1]:.1f}"
            print(f"{label}, after {WARM_UP * what['seconds']:.0f} s: {says}")
            ax.set_title(says, fontsize=9)
        ax.set_ylim(bottom=0)
        ax.set_ylabel(label)
        ax.axvline(WARM_UP * what["seconds"], color="0.7", lw=0.8)
        ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel("seconds")
    last = lines[-1]
    fig.suptitle(
        f"{what['jobs']} jobs at once, {last['trained']} trained and {last['expired']} removed again "
        f"in {what['seconds']} s ({last['decisions']:.0f} decisions, {last['troubles']} without an answer)"
    )
    fig.savefig(picture)
    print(f"{picture}: the curve")


if __name__ == "__main__":
    main()
