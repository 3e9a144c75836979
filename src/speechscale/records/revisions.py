"""Revisions of the stages: small integers, each raised when the results of its stage change.

An artefact records the revisions of the stages that made it and the identity of the code. It is reused only by code
with the same revisions. Another commit of the code alone does not prevent reuse. `tests/test_revisions.py` holds a
result of every stage, and fails when a result changes and the revision does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from speechscale.errors import UserError
from speechscale.records.code import CodeIdentity, code_identity

Stage = Literal[
    "story corpus",
    "speech",
    "k-means",
    "encode",
    "import units",
    "unigram",
    "unigram tokens",
    "text tokens",
    "subset",
    "train",
    "score",
    "generate",
    "fit",
]
STAGE_REVISIONS: dict[Stage, int] = {
    "story corpus": 2,  # texts of the story world; 2: mirrored items of many contrasts, "already" for "often"
    "speech": 1,  # waveforms of synthesised speech
    "k-means": 1,
    "encode": 1,  # waveforms to shards of units
    "import units": 1,  # units of other tools to shards
    "unigram": 1,  # learning of tokens
    "unigram tokens": 1,  # units to tokens
    "text tokens": 1,  # transcripts to characters
    "subset": 1,  # selection of one dataset of shards
    "train": 2,  # 2: every run and every corpus of a mixture has a random stream of its own
    "score": 2,  # 2: intervals over clusters of items
    "generate": 1,  # units and waveforms drawn from a model
    # Laws; 2: random streams of their own; 3: the pool of forecasts; 4: its members and scale, scores pooled,
    # repeated data pooled, IsoFLOP by its FLOPs, noise
    "fit": 4,
}


def revisions_of(*stages: Stage) -> dict[str, int]:
    """The current revision of each stage."""
    return {stage: STAGE_REVISIONS[stage] for stage in stages}


def made_by(*stages: Stage) -> dict[str, object]:
    """`code` and `revisions`, as JSON, for the header of an artefact that these stages make."""
    return {"code": code_identity().model_dump(), "revisions": revisions_of(*stages)}


def require_revisions(
    path: Path, found: Mapping[str, int], wanted: Mapping[str, int], code: CodeIdentity | None = None
) -> None:
    """Refuse to reuse an artefact that another revision of a stage made.

    Args:
        path: the artefact.
        found: revisions by stage, as the artefact records them.
        wanted: those of this code.
        code: the code that made the artefact, where it is known.

    Raises:
        UserError: the sentence names the stage, both revisions and the remedy.
    """
    for stage, revision in wanted.items():
        if stage not in found:
            made = f"was made by an unknown revision of the stage {stage!r}"
        elif found[stage] != revision:
            made = f"was made by revision {found[stage]} of the stage {stage!r}"
        else:
            continue
        instead = f", or continue with the code that made it ({code})" if code else ""
        raise UserError(
            f"{path}: {made}; this code has revision {revision}, whose results differ. Remove it to make it again"
            f"{instead}, or choose another output folder."
        )
