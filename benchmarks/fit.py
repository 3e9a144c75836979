"""How fast is the fitter, against the usual loop over SciPy's L-BFGS-B, on the same data and to the same optimum?

    python benchmarks/fit.py               # 240 runs, 4,500 starts, 4,000 resamples; the loop timed in part and scaled

The loop is the published recipe (Hoffmann et al. 2022, appendix D.3): every start of the grid, then every resample
from the optimum. It is timed with the gradient in closed form and with SciPy's finite differences, which is what the
public replications use. Our fitter eliminates A, B and E from the 4,500 starts, which leaves a plane of exponents,
and moves it, then all resamples, as batches; `--exhaustive` descends from all 4,500 as they stand as well.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from scipy.optimize import minimize

from speechscale.laws.bootstrap import draw_laws
from speechscale.laws.forms import log_loss, to_theta
from speechscale.laws.single_epoch import fit_single_epoch, published_starts

TRUTH = {"E": 1.82, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366}  # shape of the Chinchilla runs
DELTA = 1e-3
AGREE = 1e-6  # relative excess over our optimum that still counts as the same


def runs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N, D and losses with heavy-tailed noise of 0.4 %."""
    rng = np.random.default_rng(seed)
    params = 10 ** rng.uniform(7.6, 10.2, count)
    tokens = params * 10 ** rng.uniform(0.0, 2.2, count)
    exact = log_loss(to_theta(TRUTH), np.log(params), np.log(tokens))
    return params, tokens, np.exp(exact + 0.004 * rng.standard_t(4, count))


class Loop:
    """The recipe one start and one resample at a time."""

    def __init__(
        self, params: np.ndarray, tokens: np.ndarray, loss: np.ndarray, *, closed_form: bool
    ) -> None:
        self.log_n, self.log_d, self.log_l = np.log(params), np.log(tokens), np.log(loss)
        self.closed_form = closed_form

    def descend(self, start: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
        objective = self._both if self.closed_form else lambda x, w: self._both(x, w)[0]
        found = minimize(objective, start, args=(weights,), jac=self.closed_form or None, method="L-BFGS-B")
        return found.x, float(found.fun)

    def _both(self, x: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([x[0] - x[3] * self.log_n, x[1] - x[4] * self.log_d, np.full_like(self.log_n, x[2])])
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        shares /= total
        residual = np.log(total) + top - self.log_l
        clipped = np.clip(residual, -DELTA, DELTA)
        pull = weights * clipped
        gradient = shares @ pull
        by_n, by_d = -(shares[0] * pull) @ self.log_n, -(shares[1] * pull) @ self.log_d
        return float(pull @ (residual - 0.5 * clipped)), np.append(gradient, [by_n, by_d])


def time_loop(loop: Loop, best: np.ndarray, starts: int, resamples: int, parts: int) -> tuple[float, float]:
    """Seconds of the whole loop, scaled from `parts` starts and resamples, and its least objective."""
    rng = np.random.default_rng(0)
    size = len(loop.log_n)
    grid = published_starts()[rng.permutation(starts)[:parts]]
    weights = rng.multinomial(size, np.full(size, 1 / size), parts).astype(float)
    began = time.perf_counter()
    least = min(loop.descend(start, np.ones(size))[1] for start in grid)
    first = time.perf_counter() - began
    began = time.perf_counter()
    for row in weights:
        loop.descend(best, row)
    second = time.perf_counter() - began
    return first / parts * starts + second / parts * resamples, least


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=240)
    parser.add_argument("--resamples", type=int, default=4000)
    parser.add_argument(
        "--parts", type=int, default=200, help="how many starts and resamples of the loop to time"
    )
    parser.add_argument(
        "--exhaustive", action="store_true", help="descend from all 4,500 starts as they stand too"
    )
    chosen = parser.parse_args()
    params, tokens, loss = runs(chosen.runs, 0)

    took = []
    for _ in range(3):
        began = time.perf_counter()
        fit = fit_single_epoch(params, tokens, loss, delta=DELTA, exhaustive=chosen.exhaustive)
        searched = time.perf_counter()
        draw_laws(fit, chosen.resamples, seed=0, resampling="runs")
        took.append((searched - began, time.perf_counter() - searched))
    search, resample = min(took, key=sum)
    ours = search + resample
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{chosen.runs} runs, {fit.convergence.starts} descents, {chosen.resamples} resamples, {os.cpu_count()} cores"
    )
    print(
        f"batched: {search:.3f} s search + {resample:.3f} s resamples = {ours:.3f} s, objective {fit.objective:.13g}"
    )
    print(f"         peak memory {memory:.0f} MiB")
    for closed_form in (True, False):
        loop = Loop(params, tokens, loss, closed_form=closed_form)
        seconds, least = time_loop(loop, fit.theta, 4500, chosen.resamples, chosen.parts)
        kind = "closed-form gradient" if closed_form else "finite differences"
        same = (
            "same optimum"
            if least <= fit.objective * (1 + AGREE)
            else "optimum not reached by the part timed"
        )
        print(
            f"L-BFGS-B loop, {kind}: {seconds:.1f} s (scaled), {seconds / ours:.0f} x; least {least:.13g}, {same}"
        )
        assert least >= fit.objective * (1 - 1e-9), "the loop found a better optimum"


if __name__ == "__main__":
    main()
