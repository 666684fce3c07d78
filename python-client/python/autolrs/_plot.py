"""The picture of a run: LR over the steps above loss over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from autolrs._exceptions import Error
from autolrs._history import COMMITTED, LOST, SEARCH, History, Step

_COLOURS = {COMMITTED: "#1f5fa8", SEARCH: "#e69a2e", LOST: "#c0392b"}
_NAMES = {COMMITTED: "committed", SEARCH: "search (trials)", LOST: "lost (rolled back)"}
_PHASE_NAMES = {"trial": "search", "warmup": "warm-up"}
_WIDTHS = {COMMITTED: 1.8, SEARCH: 1.0, LOST: 1.4}


def draw(history: History, path: Path, title: str) -> Path:
    """Draws the history into a png, svg or pdf file."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise Error("plot() needs matplotlib: pip install matplotlib") from missing
    if not len(history):
        raise Error("There is nothing to plot: no step has been run.")
    steps = list(history)
    figure = Figure(figsize=(10, 6.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.15])
    _draw_lr(upper, steps)
    _draw_loss(lower, steps)
    for axes in (upper, lower):
        _shade_search(axes, steps)
    _name_phases(upper, steps)
    upper.set_title(_headline(title, steps), loc="left", fontsize=11)
    handles, labels = lower.get_legend_handles_labels()
    lower.legend(handles, labels, loc="upper right", frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _shade_search(axes: Any, steps: Sequence[Step]) -> None:
    for searching, run in groupby(steps, key=lambda step: step.kind == SEARCH):
        stretch = list(run)
        if searching:
            axes.axvspan(
                stretch[0].total_step - 0.5, stretch[-1].total_step + 0.5, color=_COLOURS[SEARCH], alpha=0.09, lw=0
            )


def _name_phases(axes: Any, steps: Sequence[Step]) -> None:
    """Writes the phases' names above the picture, where there is room for them."""
    total = len(steps)
    for phase, run in groupby(steps, key=lambda step: step.phase):
        stretch = list(run)
        if len(stretch) < 0.035 * total:
            continue
        middle = (stretch[0].total_step + stretch[-1].total_step) / 2
        name = _PHASE_NAMES.get(phase, phase)
        axes.text(
            middle,
            0.985,
            name,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=8,
            color="#666666",
        )
        if stretch[0].total_step > steps[0].total_step:
            axes.axvline(stretch[0].total_step - 0.5, color="#cccccc", lw=0.7, zorder=0)


def _draw_lr(axes: Any, steps: Sequence[Step]) -> None:
    for stretch in _stretches(steps):
        kind = stretch[0].kind
        x = [step.total_step for step in stretch]
        y = [step.lr if step.lr > 0 else math.nan for step in stretch]
        axes.plot(x, y, color=_COLOURS[kind], lw=_WIDTHS[kind], alpha=0.75 if kind == SEARCH else 1.0)
        if kind == SEARCH and not math.isfinite(stretch[-1].loss):
            axes.plot(x[-1:], y[-1:], "x", color=_COLOURS[LOST], ms=5)
    chosen = chosen_lr(steps)
    if chosen is not None:
        axes.axhline(chosen.lr, color=_COLOURS[COMMITTED], lw=0.8, ls=":")
        axes.annotate(
            f"chosen LR {chosen.lr:.3g}",
            (chosen.total_step, chosen.lr),
            xytext=(6, 6),
            textcoords="offset points",
            color=_COLOURS[COMMITTED],
            fontsize=9,
        )
        axes.plot([chosen.total_step], [chosen.lr], "o", color=_COLOURS[COMMITTED], ms=4)
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.set_ylabel("learning rate")
    _tidy(axes)


def _draw_loss(axes: Any, steps: Sequence[Step]) -> None:
    named: set[str] = set()
    for stretch in _stretches(steps):
        kind = stretch[0].kind
        colour = _COLOURS[kind]
        x = [step.total_step for step in stretch]
        y = [step.loss for step in stretch]
        label = None if kind in named else _NAMES[kind]
        named.add(kind)
        if kind == COMMITTED:
            axes.plot(x, y, color=colour, lw=0.5, alpha=0.3)
            y = _smooth(y)
        axes.plot(x, y, color=colour, lw=_WIDTHS[kind], alpha=0.75 if kind == SEARCH else 1.0, label=label)
    low, high = _limits(steps)
    axes.set_ylim(low, high)
    _mark_diverged(axes, steps, high)
    axes.set_ylabel("training loss")
    axes.set_xlabel("optimizer step (search and lost steps included)")
    _tidy(axes)


def _mark_diverged(axes: Any, steps: Sequence[Step], top: float) -> None:
    """A cross at the upper edge where a stretch left the picture."""
    broken = [
        stretch[-1].total_step
        for stretch in _stretches(steps)
        if stretch[0].kind != COMMITTED and not stretch[-1].loss <= top
    ]
    if broken:
        axes.plot(
            broken,
            [top] * len(broken),
            "x",
            color=_COLOURS[LOST],
            ms=6,
            mew=1.5,
            clip_on=False,
            label="diverged",
            zorder=5,
        )


def _tidy(axes: Any) -> None:
    axes.margins(x=0.01)
    axes.grid(True, which="major", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _stretches(steps: Sequence[Step]) -> list[list[Step]]:
    """Runs of steps to be drawn as one line: a trial each, and committed stretches across directives."""

    def key(step: Step) -> tuple[str, int]:
        return step.kind, 0 if step.kind == COMMITTED else step.seq

    return [list(run) for _, run in groupby(steps, key=key)]


def chosen_lr(steps: Sequence[Step]) -> Step | None:
    """The first kept step at the LR that the search chose: where the warm-up has ended."""
    if not any(step.kind == SEARCH for step in steps):
        return None
    kept = (step for step in steps if step.kind == COMMITTED and step.phase == "stable")
    return next(kept, None)


def _smooth(losses: Sequence[float]) -> list[float]:
    """Mean of the moving averages from both sides, so that the line does not lag."""
    forward, backward = _average(losses), _average(losses[::-1])[::-1]
    return [(a + b) / 2 for a, b in zip(forward, backward)]


def _average(losses: Sequence[float], decay: float = 0.96) -> list[float]:
    """Exponential moving average without the pull of its start; non-finite values are skipped."""
    smooth: list[float] = []
    total = weight = 0.0
    for loss in losses:
        if math.isfinite(loss):
            total = decay * total + (1 - decay) * loss
            weight = decay * weight + (1 - decay)
        smooth.append(total / weight if weight else math.nan)
    return smooth


def _limits(steps: Sequence[Step]) -> tuple[float, float]:
    """What to show of the losses: all committed ones, and the others as far as they stay near the first loss."""
    finite = [step.loss for step in steps if math.isfinite(step.loss)]
    if not finite:
        return 0.0, 1.0
    kept = sorted(step.loss for step in steps if step.kind == COMMITTED and math.isfinite(step.loss)) or finite
    low = min(finite)
    high = max(kept[int(0.999 * (len(kept) - 1))], finite[0])
    room = 0.08 * (high - low) or 1.0
    return (low - room if low < 0 else max(0.0, low - room)), high + 2 * room


def _headline(title: str, steps: Sequence[Step]) -> str:
    counts = {kind: sum(step.kind == kind for step in steps) for kind in (COMMITTED, SEARCH, LOST)}
    parts = [f"{counts[COMMITTED]} steps committed"]
    if counts[SEARCH]:
        parts.append(f"{counts[SEARCH]} search ({100 * counts[SEARCH] / len(steps):.1f} %)")
    if counts[LOST]:
        parts.append(f"{counts[LOST]} lost")
    return f"{title}: " + ", ".join(parts)
