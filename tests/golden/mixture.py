"""Writes server/core/tests/golden/mixture.json: the forecaster `mixture`, written once more with NumPy and SciPy.

    venv/bin/python tests/golden/mixture.py      # the environment of generate.py

One plain loop over the nodes, SciPy's distribution functions and bounded minimiser; the file names the versions.
"""

import json
import pathlib

import numpy as np
import scipy
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm

OUT = pathlib.Path(__file__).parents[2] / "server/core/tests/golden/mixture.json"


def main():
    cases = [*all_cases(np.random.default_rng(3)), *given_times(np.random.default_rng(5))]
    head = {"generator": "tests/golden/mixture.py", "versions": {m.__name__: m.__version__ for m in (np, scipy)}}
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')


def all_cases(rng):
    for n in (8, 30, 50, 100, 257):
        i = np.arange(n)
        for rate in (0.3, 3.0, 15.0):
            for noise in (0.003, 0.05):
                for bound in (None, 0.0):
                    y = 2.1 * np.exp(-rate * i / n) + 0.2 + noise * rng.normal(size=n)
                    yield case(y, bound, 10.0 * n)
        power = 2.0 * (1 + i / (0.1 * n)) ** -0.5 + 0.02 * rng.normal(size=n)
        yield case(power - power.min(), 0.0, 10.0 * n)
        yield case(-3 + 0.01 * i + 0.02 * rng.normal(size=n), None, 4.0 * n)
        spiked = 1.5 * np.exp(-3 * i / n) + 0.3 + 0.01 * rng.normal(size=n)
        spiked[rng.integers(0, n, 3)] += 2
        yield case(spiked, 0.0, 7.5 * n)


def given_times(rng):
    """Losses at some steps of a trial: validation losses, and a training loss that was not taken at every step."""
    for count, steps in ((12, 20), (16, 16), (16, 20), (16, 800), (60, 200)):
        for rate in (0.6, 6.0):
            for bound in (None, 0.0):
                times = np.sort(rng.choice(np.arange(1, steps + 1), count, replace=False))
                y = 2.1 * np.exp(-rate * times / steps) + 0.2 + 0.01 * rng.normal(size=count)
                yield case(y, bound, 10.0 * steps, times)


def case(y, bound, horizon, times=None):
    mean, sd = forecast(y, bound, horizon, times)
    given = {} if times is None else {"times": times.tolist()}
    return {"losses": y.tolist(), **given, "lower_bound": bound, "horizon": horizon, "mean": mean, "sd": sd}


def forecast(y, bound, horizon, times=None):
    y = np.array(y)
    n = len(y)
    at = np.arange(n) if times is None else times
    span = at[-1] + 1
    unit = np.ptp(y)
    middle = np.median(y)
    scaled = (y - middle) / unit
    if bound is not None and y.min() < bound:
        bound = None  # wrong, so not used
    if bound is not None:
        bound = (bound - middle) / unit

    s1 = max(1.4826 * np.median(np.abs(np.diff(scaled, 2))) / np.sqrt(6), 1e-9)
    m = max(1, n // 25)
    first = n % m
    bins = scaled[first:].reshape(-1, m)
    medians = np.median(bins, axis=1, keepdims=True)
    z = np.clip(bins, medians - 3 * s1, medians + 3 * s1).mean(axis=1)
    t = (at + 1)[first:].reshape(-1, m).mean(axis=1) / span
    count = len(z)

    nodes = [(exponential(rate), -np.log(64)) for rate in np.geomspace(0.05, 40, 64)]
    for p in (0.25, 0.5, 1, 2):
        nodes += [(power_law(p, t0), -np.log(32) + np.log(0.5)) for t0 in np.geomspace(0.02, 2, 8)]

    fits = [fit(g, t, z) for g, _ in nodes]
    s2 = max(s1**2 / m, min(f["rss"] for f in fits) / (count - 3), 1e-18)

    def log_weight(g, f, prior):
        value = prior - f["rss"] / (2 * s2) - np.log(count * f["det"]) / 2
        if bound is not None:
            c, var = at_infinity(g, f, s2, count)
            value += norm.logcdf((c - bound) / np.sqrt(var))
        return value

    weights = [log_weight(g, f, prior) for (g, prior), f in zip(nodes, fits)]
    best = int(np.argmax(weights[:64]))
    logs = np.log(np.geomspace(0.05, 40, 64))

    def cost(x):
        g = exponential(np.exp(x))
        return -log_weight(g, fit(g, t, z), -np.log(64))

    limits = (logs[max(best - 1, 0)], logs[min(best + 1, 63)])
    found = minimize_scalar(cost, bounds=limits, method="bounded", options={"xatol": 1e-11, "maxiter": 500})
    g = exponential(np.exp(found.x))
    nodes.append((g, -np.log(64)))
    fits.append(fit(g, t, z))
    weights.append(-found.fun)

    w = np.exp(np.array(weights) - logsumexp(weights))
    # The first loss is at time 0 of the caller, step 1 of the window.
    phi = np.array([phi_at(g, (horizon + 1) / span) for g, _ in nodes])
    e, a, sb, det = (np.array([f[key] for f in fits]) for key in ("e", "a", "sb", "det"))
    mu = e + a * phi
    mean = w @ mu
    var = w @ (s2 / count * (1 + (phi - sb) ** 2 / det) + (mu - mean) ** 2)
    tenth = max(1, n // 10)
    if np.median(scaled[-tenth:]) > np.median(scaled[:tenth]) + 3 * s1:
        mean = max(mean, w @ e)
    mean = np.clip(mean, scaled.min() - 3, scaled.max() + 3)
    if bound is not None:
        mean = max(mean, bound)
    return float(middle + unit * mean), float(1.3 * np.sqrt(var) * unit)


def exponential(rate):
    return lambda t: np.exp(-rate * t)


def power_law(p, t0):
    return lambda t: (1 + t / t0) ** -p


def phi_at(g, t):
    return (g(t) - g(1.0)) / (g(0.0) - g(1.0))


def fit(g, t, z):
    phi = phi_at(g, t)
    sb = phi.mean()
    det = (phi**2).mean() - sb**2 + 1e-9
    a = ((phi * z).mean() - sb * z.mean()) / det
    e = z.mean() - a * sb
    return {"e": e, "a": a, "sb": sb, "det": det, "rss": ((z - e - a * phi) ** 2).sum()}


def at_infinity(g, f, s2, count):
    phi = -g(1.0) / (g(0.0) - g(1.0))
    return f["e"] + f["a"] * phi, s2 / count * (1 + (phi - f["sb"]) ** 2 / f["det"])


if __name__ == "__main__":
    main()
