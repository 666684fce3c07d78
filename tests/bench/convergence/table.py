"""The tables: who reaches what, how soon, at which cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from convergence.plan import Plan
from convergence.rows import Row, Rows
from convergence.tasks import TASKS

# A run is destroyed if it is not finite, or worse than the best constant LR by this many of that one's seed sd.
DESTROYED = 10.0


@dataclass(frozen=True)
class Line:
    """One policy on one task at one budget."""

    policy: str
    lr: float | None
    # Test metric: mean and standard error over the seeds; none if no run was finite.
    mean: float | None
    error: float | None
    seeds: int
    # Share of the budget until the validation metric is as good as the tuned cosine's at its end: the median of the
    # seeds; none if most never are.
    speed: float | None
    overhead: float
    destroyed: int


def lines(plan: Plan, rows: Rows, task: str, budget: int) -> list[Line]:
    """The lines of one table, best first."""
    finals = {policy: rows.some(task=task, policy=policy, budget=budget, final=True) for policy in plan.policies}
    goal = _mean([row["validation"] for row in finals.get("cosine", [])])
    worst = destroyed_above([row["test"] for row in finals.get("constant", [])])
    made = [_line(policy, runs, goal, worst) for policy, runs in finals.items() if runs]
    return sorted(made, key=lambda line: float("inf") if line.mean is None else line.mean)


def destroyed_above(constants: list[float | None]) -> float:
    """The metric beyond which a run is destroyed, from those of the best constant LR."""
    tests = [test for test in constants if test is not None]
    return statistics.fmean(tests) + DESTROYED * statistics.stdev(tests) if len(tests) > 1 else float("inf")


def _line(policy: str, runs: list[Row], goal: float | None, worst: float) -> Line:
    tests = [row["test"] for row in runs if row["test"] is not None]
    reached = sorted(step for row in runs if (step := _reached(row, goal)) is not None)
    return Line(
        policy,
        runs[0]["lr"],
        _mean(tests),
        statistics.stdev(tests) / len(tests) ** 0.5 if len(tests) > 1 else None,
        len(runs),
        statistics.median(reached) if len(reached) > len(runs) / 2 else None,
        statistics.median(row["overhead"] for row in runs),
        sum(row["test"] is None or row["test"] > worst for row in runs),
    )


def _mean(values: list[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return statistics.fmean(finite) if finite else None


def _reached(row: Row, goal: float | None) -> float | None:
    """Share of the budget at the first evaluation that is at the goal or beyond."""
    if goal is None:
        return None
    at = [step for step, metric, _, _ in row["curve"] if metric is not None and metric <= goal]
    return at[0] / row["budget"] if at else None


def markdown(plan: Plan, rows: Rows) -> Iterator[str]:
    """A table per budget with all tasks, then one per task and budget with all there is to say."""
    made = {(task, budget): lines(plan, rows, task, budget) for budget in plan.budgets for task in plan.tasks}
    made = {key: found for key, found in made.items() if found}
    for budget in plan.budgets:
        tasks = [task for task in plan.tasks if (task, budget) in made]
        if tasks:
            yield from _summary(plan, tasks, budget, made)
    for (task, budget), found in made.items():
        yield from _details(plan, task, budget, found)


def _summary(plan: Plan, tasks: list[str], budget: int, made: dict[tuple[str, int], list[Line]]) -> Iterator[str]:
    yield f"\n**{budget} steps in all**: test metric, lower is better; bold: the best\n"
    heads = [f"{task}, {TASKS[task].metric.replace('test ', '')}" for task in tasks]
    yield f"| policy | {' | '.join(heads)} | extra runs |"
    yield f"|---|{'---|' * len(tasks)}---|"
    for policy in plan.policies:
        found = [next((line for line in made[task, budget] if line.policy == policy), None) for task in tasks]
        if not any(found):
            continue
        cells = [
            "-" if line is None else f"**{_metric(line)}**" if line is made[task, budget][0] else _metric(line)
            for task, line in zip(tasks, found)
        ]
        yield f"| {policy} | {' | '.join(cells)} | {plan.tuning_runs(tasks[0], policy)} per task |"


def _details(plan: Plan, task: str, budget: int, found: list[Line]) -> Iterator[str]:
    yield f"\n**{task}**, {TASKS[task].family}, {budget} steps in all\n"
    yield f"| policy | tuned LR | {TASKS[task].metric} | steps to cosine's end | search | destroyed | extra runs |"
    yield "|---|---|---|---|---|---|---|"
    for line in found:
        speed = "never" if line.speed is None else f"{line.speed:.0%}"
        lr = "-" if line.lr is None else f"{line.lr:.2g}"
        yield (
            f"| {line.policy} | {lr} | {_metric(line)} | {speed} | {line.overhead:.1%} | "
            f"{line.destroyed} of {line.seeds} | {plan.tuning_runs(task, line.policy)} |"
        )


def _metric(line: Line) -> str:
    if line.mean is None:
        return "not finite"
    return f"{line.mean:.4g}" if line.error is None else f"{line.mean:.4g} ± {line.error:.2g}"
