"""Learning-rate schedules: linear warm-up, then a cosine or warmup-stable-decay (`wsd`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from speechscale.model.shape import TrainingPreset

Schedule = Literal["cosine", "wsd"]  # half a cosine over all steps; or warm-up, constant rate, short decay
FINAL_SHARE: dict[Schedule, float] = {"cosine": 0.1, "wsd": 0.0}  # of the peak, at the last step


def warmup_steps(steps: int) -> int:
    """Number of warm-up steps: max(100, 1 % of the steps) as in the study, but at most a tenth of a short run."""
    return min(max(100, steps // 100), max(1, steps // 10))


def decay_start(steps: int, decay: float) -> int:
    """First step of a decay over the share `decay` of all steps; the decay has at least one step."""
    return steps - max(1, round(decay * steps))


@dataclass(frozen=True)
class LearningRateSchedule:
    """Learning rate as a function of the step.

    `cosine` falls by half a cosine to a tenth of the peak (the study: 5e-4 to 5e-5). `wsd` stays at the peak and falls
    in the last `decay` of the steps by 1 - sqrt(progress) to 0: the form that Hägele et al. 2024 ("Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", arXiv 2405.18392) found best, and as good as a cosine
    when the decay takes a fifth of the steps.

    Attributes:
        steps: updates of the whole run.
        peak_lr: the rate at the end of the warm-up.
        preset: `paper` starts the warm-up at rate 0, as the released code does, which wastes step 0; `modern` starts
            one increment higher.
        schedule: `cosine` or `wsd`.
        warmup: steps of the warm-up; None for the study's rule.
        decay: share of the steps; of `wsd` only.
        final: share of the peak at the last step; None for the schedule's own.
    """

    steps: int
    peak_lr: float
    preset: TrainingPreset
    schedule: Schedule = "cosine"
    warmup: int | None = None
    decay: float = 0.2
    final: float | None = None

    def at(self, step: int) -> float:
        """The learning rate of an update, counted from 0."""
        warmup = warmup_steps(self.steps) if self.warmup is None else self.warmup
        if step < warmup:
            return self.peak_lr * (step + (self.preset == "modern")) / warmup
        final = FINAL_SHARE[self.schedule] if self.final is None else self.final
        if self.schedule == "wsd":
            start = decay_start(self.steps, self.decay)
            above = 1.0 - math.sqrt(max(0, step - start) / (self.steps - start))
        else:
            progress = min(1.0, (step - warmup) / max(1, self.steps - warmup - 1))
            above = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_lr * (final + (1 - final) * above)
