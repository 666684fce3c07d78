"""Writes server/core/tests/golden/*.json: what other people's libraries give for the formulas of autolrs-core.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 mpmath==1.4.1
    venv/bin/python tests/golden/generate.py

- gp.json: scikit-learn's GaussianProcessRegressor with fixed hyper-parameters (optimizer=None), and the most probable
  grid node by its log marginal likelihood.
- acquisition.json: expected improvement and its logarithm, mpmath with 60 digits.
- exponential.json: SciPy's nonlinear least squares in (a, rate, c) from many starts, after an own removal of outliers;
  the noise estimate by NumPy.

Each file names the versions that made it. The inputs are drawn here, so a file holds all that its test needs.
"""

import json
import pathlib

import mpmath
import numpy
import scipy
import scipy.optimize
import sklearn
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

OUT = pathlib.Path(__file__).parents[2] / "server/core/tests/golden"
VERSIONS = {m.__name__: m.__version__ for m in (numpy, scipy, sklearn, mpmath)}


def main():
    write("gp", gp_cases(numpy.random.default_rng(1)))
    write("acquisition", acquisition_cases())
    write("exponential", exponential_cases(numpy.random.default_rng(2)) + given_times(numpy.random.default_rng(4)))


def write(name, cases):
    head = {"generator": "tests/golden/generate.py", "versions": VERSIONS}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (OUT / f"{name}.json").write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')


# --- Gaussian process ---


def gp_cases(rng):
    cases = []
    for n in (1, 2, 3, 7, 10, 20, 64):
        z = rng.uniform(-4, 1, n)
        y = numpy.clip(0.3 * (z + 1.5) ** 2 + rng.normal(0, 0.1, n), 0, 3)
        variance = rng.uniform(0.001, 0.1, n)
        hyper = [float(rng.uniform(0.2, 4)), float(rng.uniform(0.3, 3)), float(rng.choice([0, 1e-4, 1e-2]))]
        queries = rng.uniform(-5, 2, 6)
        model = fitted(z, y, variance, hyper)
        mean, sd = model.predict(queries[:, None], return_std=True)
        cases.append(
            {
                "z": z.tolist(),
                "y": y.tolist(),
                "variance": variance.tolist(),
                "hyper": hyper,
                "queries": queries.tolist(),
                "mean": (mean + y.mean()).tolist(),
                "sd": sd.tolist(),
                "ln_likelihood": model.log_marginal_likelihood_value_,
                "map_hyper": most_probable(z, y, variance),
            }
        )
    return cases


def fitted(z, y, variance, hyper):
    length, signal, noise = hyper
    kernel = ConstantKernel(signal) * Matern(length_scale=length, nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=variance + noise, optimizer=None)
    return model.fit(z[:, None], y - y.mean())


def most_probable(z, y, variance):
    def log_prior(length, signal, noise):
        normals = ((numpy.log(length), 0.6), (numpy.log(signal), 1), (numpy.log(noise / 0.01), 2))
        return -0.5 * sum((u / sd) ** 2 for u, sd in normals)

    grid = [
        (float(length), signal, noise)
        for length in numpy.geomspace(0.15, 5, 14)
        for signal in (0.3, 1.0, 3.0)
        for noise in (1e-4, 1e-2, 1e-1)
    ]
    return max(grid, key=lambda h: fitted(z, y, variance, h).log_marginal_likelihood_value_ + log_prior(*h))


# --- Expected improvement ---


def acquisition_cases():
    mpmath.mp.dps = 60
    us = [-1e4, -300, -60, -38, -26, -25.5, -25, -24.5, -20, -8, -5, -2, -1, -0.1, 0, 0.3, 1, 4, 9, 50]
    return [improvement(u * sd, sd) for sd in (1.0, 1e-3, 0.37) for u in us]


def improvement(gain, sd):
    """Of a belief with mean -gain over best = 0; the arguments are taken as the doubles that the test reads."""
    u = mpmath.mpf(gain) / mpmath.mpf(sd)
    cdf = mpmath.erfc(-u / mpmath.sqrt(2)) / 2
    value = mpmath.mpf(sd) * (mpmath.npdf(u) + u * cdf)
    return {"mean": -gain, "sd": sd, "ei": float(value), "ln_ei": float(mpmath.log(value))}


# --- Exponential forecast ---


def exponential_cases(rng):
    cases = []
    for n, kind in ((8, "Validation"), (16, "Validation"), (40, "Training"), (100, "Training"), (250, "Training")):
        for rate in (0.6, 3.0, 12.0):
            for noise in (0.0, 0.02):
                for bound in (None, 0.0):
                    t = numpy.arange(n)
                    y = 2.1 * numpy.exp(-rate * t / n) + 0.05 + noise * rng.normal(size=n)
                    if kind == "Training" and noise:
                        y[rng.integers(0, n // 2, 3)] += 1.5
                    if bound is not None and y.min() < bound:
                        y += bound - y.min()
                    cases.append(exponential_case(y, kind, bound, horizon=10.0 * n))
    return cases


def given_times(rng):
    """Validation losses at 16 steps of a trial, evenly spread or not."""
    cases = []
    for steps in (16, 20, 100, 800):
        even = numpy.array([-(-j * steps // 16) for j in range(1, 17)])
        for times in (even, numpy.sort(rng.choice(numpy.arange(1, steps + 1), 12, replace=False))):
            for rate in (0.6, 6.0):
                for bound in (None, 0.0):
                    y = 2.1 * numpy.exp(-rate * times / steps) + 0.05 + 0.01 * rng.normal(size=len(times))
                    if bound is not None and y.min() < bound:
                        y += bound - y.min()
                    cases.append(exponential_case(y, "Validation", bound, 10.0 * steps, times))
    return cases


def exponential_case(y, kind, bound, horizon, times=None):
    at = numpy.arange(len(y)) if times is None else times
    n = at[-1] + 1
    kept = numpy.array(trimmed(y, kind))
    starts = numpy.geomspace(0.06, 35, 12)
    best = min((fit(at[kept], y[kept], n, bound, start) for start in starts), key=lambda f: f[0])
    rss, (a, rate, c), at_bound = best
    decay = numpy.exp(-rate * at[kept] / n)
    columns = decay[:, None] if at_bound else numpy.column_stack([decay, numpy.ones(len(kept))])
    at_horizon = numpy.array([numpy.exp(-rate * horizon / n), 1.0])[: columns.shape[1]]
    covariance = rss / (len(kept) - 3) * numpy.linalg.inv(columns.T @ columns)
    d = numpy.diff(y, 2)
    return {
        "losses": y.tolist(),
        **({} if times is None else {"times": times.tolist()}),
        "kind": kind,
        "lower_bound": bound,
        "horizon": horizon,
        "mean": float(a * numpy.exp(-rate * horizon / n) + c),
        "sd": float(numpy.sqrt(at_horizon @ covariance @ at_horizon)),
        "noise_sd": float(max(1.4826 * numpy.median(numpy.abs(d)) / numpy.sqrt(6), 1e-9 * numpy.ptp(y))),
    }


def fit(t, y, n, bound, start):
    """(RSS, (a, rate, c), whether c is at its bound) of the local optimum from this rate."""

    def residuals(p, c=None):
        return p[0] * numpy.exp(-p[1] * t / n) + (p[2] if c is None else c) - y

    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "x_scale": "jac", "max_nfev": 2000}
    limits = ([-numpy.inf, 0.05, -numpy.inf], [numpy.inf, 40, numpy.inf])
    free = scipy.optimize.least_squares(residuals, [numpy.ptp(y), start, y.min()], bounds=limits, **tight)
    if bound is None or free.x[2] >= bound:
        return 2 * free.cost, tuple(free.x), False
    limits = (limits[0][:2], limits[1][:2])
    held = scipy.optimize.least_squares(residuals, [numpy.ptp(y), start], bounds=limits, args=(bound,), **tight)
    return 2 * held.cost, (*held.x, bound), True


def trimmed(y, kind):
    kept = list(range(len(y)))
    for _ in range(10 if kind == "Training" else 1):
        first_half = [i for i in kept if 2 * i < len(y)]
        drop = 1 if kind == "Validation" else int(numpy.floor(0.03 * len(first_half) + 0.5))
        distance = numpy.abs(y[kept] - smooth(y[kept]))[: len(first_half)]
        farthest = sorted(range(len(first_half)), key=lambda i: -distance[i])[:drop]
        gone = {first_half[i] for i in farthest if distance[i] > 0}
        kept = [i for i in kept if i not in gone]
    return kept


def smooth(y):
    last = len(y) - 1
    s = []
    for i in range(len(y)):
        half = min(4, i, last - i)
        s.append(numpy.median(y[i - half : i + half + 1]))
    s[0] = numpy.median([y[0], s[1], 3 * s[1] - 2 * s[2]])
    s[-1] = numpy.median([y[-1], s[-2], 3 * s[-2] - 2 * s[-3]])
    return numpy.array(s)


if __name__ == "__main__":
    main()
