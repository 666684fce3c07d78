"""Which trainings there are: first every LR of every tuned policy once at the small budget, then the finals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from convergence.policies import POLICIES, TUNED
from convergence.rows import Key, Rows
from convergence.tasks import TASKS

TUNING_SEED = 100


@dataclass(frozen=True)
class Plan:
    """The scale of a benchmark. The first budget is the small one, at which LRs are tuned."""

    tasks: tuple[str, ...] = tuple(TASKS)
    policies: tuple[str, ...] = tuple(POLICIES)
    budgets: tuple[int, ...] = (1500, 4500)
    seeds: tuple[int, ...] = (0, 1, 2)
    # Every so many LRs of a task's grid.
    grid_step: int = 1

    def tuning(self) -> Iterator[Key]:
        """(task, policy, lr, budget, seed, final) of the tuning."""
        for task in self.tasks:
            for policy in (p for p in self.policies if p in TUNED):
                for lr in TASKS[task].grid[:: self.grid_step]:
                    yield task, policy, lr, self.budgets[0], TUNING_SEED, False

    def finals(self, rows: Rows) -> Iterator[Key]:
        """The same of the finals, with the LRs that the tuning says."""
        for budget in self.budgets:
            for seed in self.seeds:
                for task in self.tasks:
                    for policy in self.policies:
                        yield task, policy, self.tuned_lr(rows, task, policy), budget, seed, True

    def tuned_lr(self, rows: Rows, task: str, policy: str) -> float | None:
        """The LR with the least validation loss; none for a policy without one."""
        if policy not in TUNED:
            return None
        tried = rows.some(task=task, policy=policy, budget=self.budgets[0], final=False)
        tried = [row for row in tried if row["validation_loss"] is not None]
        assert tried, f"every LR of {policy} diverged on {task}"
        return float(min(tried, key=lambda row: row["validation_loss"])["lr"])

    def tuning_runs(self, task: str, policy: str) -> int:
        """Trainings that were spent on choosing a policy's LR."""
        return len(TASKS[task].grid[:: self.grid_step]) if policy in TUNED else 0
