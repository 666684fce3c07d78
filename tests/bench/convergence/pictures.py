"""Pictures of the finals: the validation metric and the LR over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convergence.plan import Plan
from convergence.policies import OURS
from convergence.rows import Row, Rows
from convergence.tasks import TASKS

# Okabe and Ito's colours, told apart by the colour-blind too; ours come first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#666666", "#BBBBBB")


def draw(plan: Plan, rows: Rows, directory: Path) -> list[Path]:
    """Draws what there are rows for: a picture per task and budget, the metric above the LR."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    for task in plan.tasks:
        for budget in plan.budgets:
            runs = {
                policy: rows.some(task=task, policy=policy, budget=budget, final=True, seed=plan.seeds[0])
                for policy in sorted(plan.policies, key=lambda policy: policy not in OURS)
            }
            shown = {policy: found[0] for policy, found in runs.items() if found}
            if shown:
                path = directory / f"{task}-{budget}.png"
                _picture(shown, f"{task}, {budget} steps in all, seed {plan.seeds[0]}", TASKS[task].metric, path)
                drawn.append(path)
    return drawn


def _picture(runs: dict[str, Row], title: str, metric: str, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(9, 8), sharex=True, constrained_layout=True, gridspec_kw={"height_ratios": (3, 2)}
    )
    ends = []
    for colour, (policy, row) in zip(COLOURS * 2, runs.items(), strict=False):
        style: dict[str, Any] = (
            {"linewidth": 2.2, "zorder": 3} if policy in OURS else {"linewidth": 1.1, "linestyle": "--"}
        )
        metrics = [(step, value) for step, value, _, _ in row["curve"] if value is not None]
        lrs = [(step, lr) for step, _, _, lr in row["curve"] if lr]
        if metrics:
            above.plot(*zip(*metrics, strict=True), label=policy, color=colour, **style)
            ends.append(metrics[-1][1])
        if lrs:
            below.plot(*zip(*lrs, strict=True), color=colour, **style)
    above.set_ylim(0.97 * min(ends), 1.9 * min(ends))
    above.set(title=title, ylabel=metric.replace("test", "validation"))
    above.legend(ncol=3, frameon=False)
    below.set(xlabel="steps, search included", ylabel="LR", yscale="log")
    figure.savefig(path, dpi=120)
    plt.close(figure)
