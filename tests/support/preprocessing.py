"""Preprocessing metadata of shards that tests write."""

from __future__ import annotations

from typing import Any


def preprocessing_of(units: int, codebook: str = "k", **more: Any) -> dict[str, Any]:
    """Metadata of log-mel units: EOS and PAD follow the units.

    Args:
        units: clusters of the codebook.
        codebook: its name.
        more: further keys, or other values.
    """
    return {
        "vocab_size": units + 2,
        "eos_token": units,
        "pad_token": units + 1,
        "unit_extractor": {"name": "mel"},
        "kmeans": {"name": codebook, "sha256": "k"},
        **more,
    }
