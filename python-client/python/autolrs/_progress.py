"""How far a job is: in a line, and in the table that a notebook shows for a schedule."""

from __future__ import annotations

import html
import math
from collections import Counter
from dataclasses import dataclass

from autolrs._history import COMMITTED, LOST, SEARCH, History

_PHASES = {"trial": "search", "warmup": "warm-up"}


@dataclass(frozen=True)
class Progress:
    """Where a schedule stands; `budget` is None if it is not known, `note` what its user should know beside it."""

    job: str
    phase: str
    lr: float
    total_step: int
    budget: int | None
    note: str = ""

    def line(self) -> str:
        """For instance `resnet50: step 1200 of 20000, stable, LR 0.03`."""
        of = "" if self.budget is None else f" of {self.budget}"
        note = f" ({self.note})" if self.note else ""
        return f"{self.job}: step {self.total_step}{of}, {self._phase}, LR {self.lr:.4g}{note}"

    def table(self, history: History) -> str:
        """HTML: the same with a bar, the last loss, and the steps by what became of them."""
        counts = Counter(step.kind for step in history)
        kinds = [f"{counts[COMMITTED]} kept", f"{counts[SEARCH]} search", f"{counts[LOST]} lost"]
        loss = next((step.loss for step in reversed(history[-100:]) if math.isfinite(step.loss)), None)
        of = "" if self.budget is None else f" of {self.budget}"
        bar = "" if not self.budget else f' <progress max="{self.budget}" value="{self.total_step}"></progress>'
        rows = {
            "job": html.escape(self.job),
            "step": f"{self.total_step}{of}{bar}",
            "phase": html.escape(f"{self._phase} ({self.note})" if self.note else self._phase),
            "LR of the next step": f"{self.lr:.4g}",
            "last finite loss": "" if loss is None else f"{loss:.4g}",
            "steps of this process": ", ".join(kinds),
        }
        lines = "".join(
            f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{text}</td></tr>'
            for name, text in rows.items()
        )
        return f"<table>{lines}</table>"

    @property
    def _phase(self) -> str:
        return _PHASES.get(self.phase, self.phase)
