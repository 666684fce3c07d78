"""python -m convergence --rows tests/bench/convergence.jsonl [--quick] [--tasks ...] [--policies ...]

Runs what the rows lack, then prints the tables and draws the pictures. Breaking it off loses the trainings under way
and no other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from convergence import pictures, table, trial
from convergence.plan import Plan
from convergence.policies import POLICIES
from convergence.rows import Key, Row, Rows
from convergence.serving import OUT, server
from convergence.tasks import TASKS

QUICK = Plan(("perceptron",), ("constant", "cosine", "scan"), budgets=(750,), seeds=(0,), grid_step=4)


def main() -> None:
    arguments = parse()
    plan = (
        QUICK if arguments.quick else Plan(tuple(arguments.tasks), tuple(arguments.policies), tuple(arguments.budgets))
    )
    rows = Rows(arguments.rows)
    OUT.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        with server() as address:
            # The pretrained network is made once, before there are several processes.
            for task in plan.tasks:
                TASKS[task].make(0)
            run_missing(list(plan.tuning()), rows, address, arguments.processes)
            run_missing(list(plan.finals(rows)), rows, address, arguments.processes)
    print("\n".join(table.markdown(plan, rows)))
    for path in pictures.draw(plan, rows, OUT):
        print(f"picture: {path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="convergence", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="file of rows, read first and added to")
    parser.add_argument(
        "--quick", action="store_true", help="one task, three policies, 750 steps: to see that it works"
    )
    parser.add_argument("--table", action="store_true", help="run nothing: print and draw what there is")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--budgets", nargs="+", type=int, default=[1500, 4500], help="the first is the one tuned at")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def run_missing(wanted: list[Key], rows: Rows, address: str, processes: int) -> None:
    """Runs the trainings that have no row yet, and keeps the row of each as soon as it is there."""
    missing = [key for key in wanted if key not in rows]
    begun = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(trial.run, *key[:5], address, key[5]) for key in missing]
        for count, future in enumerate(as_completed(futures), start=1):
            try:
                row = future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            rows.add(row)
            print(
                f"{count}/{len(missing)} {_said(row)}, {time.monotonic() - begun:.0f} s in all",
                file=sys.stderr,
                flush=True,
            )


def _said(row: Row) -> str:
    """A training in a few words."""
    lr = "" if row["lr"] is None else f" LR {row['lr']:.2g}"
    shown = row.get("test", row["validation_loss"])
    result = "not finite" if shown is None else f"{shown:.4g}"
    return f"{row['task']} {row['policy']}{lr} {row['budget']} steps, seed {row['seed']}: {result} ({row['seconds']} s)"


if __name__ == "__main__":
    main()
