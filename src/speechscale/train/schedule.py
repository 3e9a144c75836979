"""The learning rate of a step."""

from __future__ import annotations

import math
from typing import Literal

from speechscale.model.shape import TrainingPreset

Schedule = Literal["cosine", "wsd"]  # half a cosine over all steps; or warm-up, a steady rate, a short decay
FINAL: dict[Schedule, float] = {"cosine": 0.1, "wsd": 0.0}  # share of the peak rate at the end


def warmup_steps(steps: int) -> int:
    """max(100, 1 % of the steps) as in the study, but never more than a tenth of a short run."""
    return min(max(100, steps // 100), max(1, steps // 10))


def decay_start(steps: int, decay: float) -> int:
    """The first step of a decay over a share of the steps: at least the last one."""
    return steps - max(1, round(decay * steps))


def learning_rate(
    step: int,
    steps: int,
    peak: float,
    preset: TrainingPreset,
    schedule: Schedule = "cosine",
    warmup: int | None = None,
    decay: float = 0.2,
    final: float | None = None,
) -> float:
    """Linear warm-up, then half a cosine down to a tenth of the peak (the study: 5e-4 to 5e-5), or `wsd`.

    Under `paper` the rate at step 0 is 0, as in the released code, which wastes that step; `modern` starts one step up.
    `wsd` stays at the peak and falls in the last `decay` of the steps by 1 - sqrt(progress), to 0: the form that
    Hägele et al. 2024 ("Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", arXiv 2405.18392)
    found best, and as good as a cosine when it takes a fifth of the steps. `final` is another share of the peak to
    end at.
    """
    warmup = warmup_steps(steps) if warmup is None else warmup
    if step < warmup:
        return peak * (step + (preset == "modern")) / warmup
    final = FINAL[schedule] if final is None else final
    if schedule == "wsd":
        start = decay_start(steps, decay)
        above = 1.0 - math.sqrt(max(0, step - start) / (steps - start))
    else:
        above = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup - 1))))
    return peak * (final + (1 - final) * above)
