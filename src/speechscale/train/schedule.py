"""The learning rate of a step."""

from __future__ import annotations

import math

from speechscale.model.shape import Preset


def warmup_steps(steps: int) -> int:
    """max(100, 1 % of the steps) as in the study, but never more than a tenth of a short run."""
    return min(max(100, steps // 100), max(1, steps // 10))


def learning_rate(step: int, steps: int, peak: float, preset: Preset) -> float:
    """Linear warm-up, then half a cosine down to a tenth of the peak (the study: 5e-4 to 5e-5).

    Under `paper` the rate at step 0 is 0, as in the released code, which wastes that step; `modern` starts one step up.
    """
    warmup = warmup_steps(steps)
    if step < warmup:
        return peak * (step + (preset == "modern")) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup - 1))
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
