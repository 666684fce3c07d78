"""`make bench`: our measurements beside scikit-optimize's ask and tell, in one run, as a table and as JSON lines.

The Rust part (`autolrs-bench`) prints rows with quantiles in seconds; this script measures scikit-optimize on the same
ten observations, takes the rows of the Python client (client.py), and prints ratios of medians.
Usage: run.py PATH_TO_AUTOLRS_BENCH [OUT.jsonl]
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

import client

TARGETS = {
    "gp_fit_and_acquisition": "<= 300 us, >= 50x faster than scikit-optimize",
    "forecast_100_losses": "<= 150 us",
    "decision": "p50 <= 0.6 ms + one fdatasync",
    "step_rust": "<= 200 ns",
    "step_python_float": "<= 2 us",
    "step_python_tensor": "<= 2 us",
    "step_python_tensor_by_8": "<= 2 us",
}


def quantiles(name: str, times: list[float]) -> dict[str, float | str]:
    times = sorted(times)
    row: dict[str, float | str] = {"name": name, "n": len(times)}
    for share in (0.1, 0.5, 0.9, 0.99):
        row[f"p{round(share * 100)}"] = times[int((len(times) - 1) * share)]
    return row


def scikit_optimize(rounds: int) -> dict[str, float | str]:
    """Telling the tenth observation (which fits the process) and asking for the next point."""
    import skopt

    z = [-4 + 5 * ((i * 7) % 10) / 9 for i in range(10)]
    loss = [0.5 + 0.1 * (x + 1) ** 2 + 0.02 * ((i * 37) % 11) / 11 for i, x in enumerate(z)]
    times = []
    for seed in range(rounds):
        optimizer = skopt.Optimizer([(-4.0, 1.0)], "GP", n_initial_points=10, acq_func="LCB", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.tell([[x] for x in z[:9]], loss[:9])
            start = time.perf_counter()
            optimizer.tell([z[9]], loss[9])
            optimizer.ask()
            times.append(time.perf_counter() - start)
    return quantiles(f"scikit_optimize_{skopt.__version__}_tell_and_ask", times)


def amount(value: float, share: bool) -> str:
    """A share in per cent, or a time in the unit that suits it."""
    if share:
        return f"{value:9.2%} "
    return f"{value * 1e6:8.0f}us" if value >= 1e-5 else f"{value * 1e9:8.0f}ns"


def main() -> None:
    binary = sys.argv[1]
    output = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    rows.append(scikit_optimize(rounds=10))
    rows += [quantiles(name, times) for name, times in client.measurements().items()]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    machine = f"{platform.machine()}, {platform.system()}, {commit or 'no commit'}"
    print(f"\n{'what':44} {'p10':>10} {'p50':>10} {'p90':>10} {'p99':>10}   target     [{machine}]")
    for row in rows:
        share = str(row["name"]).startswith("share")
        cells = " ".join(amount(float(row[q]), share) for q in ("p10", "p50", "p90", "p99"))
        print(f"{row['name']:44} {cells}   {TARGETS.get(str(row['name']), '')}")
    p50 = {str(row["name"]): float(row["p50"]) for row in rows}
    (skopt,) = [p50[name] for name in p50 if name.startswith("scikit_optimize")]
    print(f"\nscikit-optimize / ours (fit and next point): {skopt / p50['gp_fit_and_acquisition']:.0f}x")
    print(f"decision - fdatasync: {(p50['decision'] - p50['fdatasync']) * 1e3:.2f} ms;", end=" ")
    print(f"decision / bare echo: {p50['decision'] / p50['bare_echo']:.1f}x")
    print(f"slot save / copy.deepcopy: {p50['slot_save'] / p50['deepcopy_of_state_dicts']:.2f}x;", end=" ")
    print(f"slot restore / load_state_dict: {p50['slot_restore'] / p50['load_state_dict_of_both']:.2f}x;", end=" ")
    print(f"the client's share of a training's time: {p50['share_of_a_run']:.2%}")
    if len(sys.argv) > 2:
        with Path(sys.argv[2]).open("a") as out:
            out.writelines(json.dumps({**row, "machine": machine}) + "\n" for row in rows)


if __name__ == "__main__":
    main()
