"""Run records and run specs of tiny runs."""

from __future__ import annotations

from typing import Any

from speechscale.records.runs import RunRecord
from speechscale.train.spec import RunSpec

BATCH, CONTEXT = 4, 32


def run_record(**fields: Any) -> RunRecord:
    """The record of a run that is done, with ones for the numbers that are not given."""
    return RunRecord.model_validate(
        {
            **dict.fromkeys(("params", "params_total", "tokens", "unique_tokens", "steps"), 1),
            **dict.fromkeys(("epochs", "flops", "flops_exact", "seconds"), 1.0),
            **dict.fromkeys(("loss", "loss_se", "bits_per_second"), 1.0),
            **{"run": "r", "series": "speech", "status": "done", "preset": "paper", "seed": 0},
            **fields,
        }
    )


def run_spec(steps: int, **fields: Any) -> RunSpec:
    """A run of so many updates of one narrow layer, where no other size is given."""
    tiny = {"run": "tiny", "layers": 1, "dim": 16, "heads": 2, "hidden_multiple": 8, "precision": "float32"}
    size = {"context": CONTEXT, "batch": BATCH, "tokens": steps * BATCH * CONTEXT}
    return RunSpec.model_validate({**tiny, **size, **fields})
