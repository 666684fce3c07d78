"""What branch scores say of the LR: python -m ideas.choice --rows tests/bench/ideas-branches.jsonl

Per task and length: the best branch LR, as log10; then how far from it a parabola and a Gaussian process choose that
see what `scan` sees (a point per decade and the neighbours of the best); then what two lengths extrapolate to.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import numpy as np
from convergence.rows import Rows

from ideas.branches import NAMES

Scores = dict[float, float]


def curves(rows: Rows) -> dict[str, dict[int, list[Scores]]]:
    """Scores by log10 LR: of each task, of each length, of each seed. A stopped branch scores the first loss."""
    found: dict[str, dict[int, dict[int, Scores]]] = {}
    for row in rows:
        name = row["task"] + (f", {row['optimizer']}" if row["optimizer"] else "")
        score = row["first"] if row["score"] is None else min(row["score"], row["first"])
        seeds = found.setdefault(name, {}).setdefault(row["steps"], {})
        seeds.setdefault(row["seed"], {})[math.log10(row["lr"])] = score
    return {name: {steps: list(seeds.values()) for steps, seeds in of.items()} for name, of in found.items()}


def parabola(scores: Scores) -> float:
    """The vertex through the best point and its neighbours, clipped half-way to them."""
    z = sorted(scores)
    i = min(range(len(z)), key=lambda i: scores[z[i]])
    if i in (0, len(z) - 1):
        return z[i]
    below, above = z[i - 1], z[i + 1]
    slope = (scores[z[i]] - scores[below]) / (z[i] - below)
    bend = ((scores[above] - scores[z[i]]) / (above - z[i]) - slope) / (above - below)
    if bend <= 0:
        return z[i]
    return min(max((below + z[i]) / 2 - slope / (2 * bend), (below + z[i]) / 2), (z[i] + above) / 2)


def process(scores: Scores, sd: float) -> float:
    """The least posterior mean of a Matern-5/2 process with the most likely hyper-parameters of a grid."""
    z, y = np.array(sorted(scores)), np.array([scores[z] for z in sorted(scores)])
    unit = max(float(np.median(y) - y.min()), sd, 1e-12)
    y, variance = np.clip((y - y.min()) / unit, 0, 3), min(sd / unit, 3.0) ** 2
    at = np.linspace(z[0], z[-1], 301)
    best, choice = -math.inf, z[0]
    for length in np.geomspace(0.15, 5, 14):
        for sf2 in (0.3, 1.0, 3.0):
            for sn2 in (1e-4, 1e-2, 1e-1):
                factor = np.linalg.cholesky(sf2 * _matern(z, z, length) + np.eye(len(z)) * (variance + sn2))
                weights = np.linalg.solve(factor.T, np.linalg.solve(factor, y - y.mean()))
                prior = (math.log(length) / 0.6) ** 2 + math.log(sf2) ** 2 + (math.log(sn2 / 0.01) / 2) ** 2
                likely = -0.5 * float((y - y.mean()) @ weights) - float(np.log(np.diag(factor)).sum()) - 0.5 * prior
                if likely > best:
                    best = likely
                    choice = at[np.argmin(sf2 * _matern(at, z, length) @ weights)]
    return float(choice)


def _matern(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    r = math.sqrt(5) * abs(a[:, None] - b[None]) / length
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))


def seen(scores: Scores, offset: int) -> Scores:
    """Every second point, and the neighbours of the best of these."""
    z = sorted(scores)
    best = z.index(min(z[offset::2], key=lambda z: scores[z]))
    return {x: scores[x] for x in sorted({*z[offset::2], *z[max(0, best - 1) : best + 2]})}


def main() -> None:
    parser = argparse.ArgumentParser(prog="ideas.choice", description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    found = curves(Rows(parser.parse_args().rows, NAMES))
    lengths = sorted({steps for of in found.values() for steps in of})
    print(f"\n| best branch LR, log10 (sd of the seeds) | {' | '.join(map(str, lengths))} |")
    print(f"|---|{'---|' * len(lengths)}")
    for name, of in found.items():
        best = {steps: [parabola(scores) for scores in seeds] for steps, seeds in of.items()}
        cells = [
            f"{statistics.fmean(best[s]):.2f} ({statistics.stdev(best[s]):.2f})" if s in best else "-" for s in lengths
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| error of the choice, decades, root mean square | parabola | Gaussian process |\n|---|---|---|")
    for name, of in found.items():
        for steps in (24, 48):
            seeds = of[steps]
            mean = {z: statistics.fmean(scores[z] for scores in seeds) for z in seeds[0]}
            truth = parabola(mean)
            off = [scores[z] - mean[z] for scores in seeds for z in mean]
            sd = 1.4826 * statistics.median(abs(x - statistics.median(off)) for x in off)
            views = [seen(scores, offset) for scores in seeds for offset in (0, 1)]
            errors = [[parabola(v) - truth for v in views], [process(v, sd) - truth for v in views]]
            rms = [math.sqrt(statistics.fmean(e * e for e in es)) for es in errors]
            print(f"| {name}, L = {steps} | {rms[0]:.3f} | {rms[1]:.3f} |")
    print("\n| committed LR, log10 (sd of the seeds) | 0.22 at L = 24 | L = 24 and 96 |\n|---|---|---|")
    for name, of in found.items():
        short, long = ([parabola(scores) for scores in of[steps]] for steps in (24, 96))
        fixed = [z + math.log10(0.22) for z in short]
        double = [b + (b - a) for a, b in zip(short, long)]
        cells = [f"{statistics.fmean(zs):.2f} ({statistics.stdev(zs):.2f})" for zs in (fixed, double)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
