"""Labelled shards as the released code of the study writes them, with labels at the top level of a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

EOS = 10
_PREPROCESSING = {
    "manifest_sha256": "0" * 64,
    "plan_num_shards": 1,
    "sample_rate": 16000,
    "unit_extractor": "hubert-kmeans",
    "collapsed": True,
    "kmeans": {"name": "km.bin", "sha256": "1" * 64},
    "vocab_size": EOS + 2,
    "eos_token": EOS,
    "pad_token": EOS + 1,
}


def write_released_shard(
    folder: Path, rows: Sequence[Mapping[str, object]], units: Sequence[np.ndarray]
) -> None:
    """Write a shard file by file (slm_scaling, `slm_data/packing.py`).

    Args:
        folder: the shard.
        rows: labels and id of each sample.
        units: of each sample, without EOS.
    """
    folder.mkdir(parents=True)
    samples = [np.append(sample, EOS).astype("<i2") for sample in units]
    lines = [{**row, "audio_steps": len(sample)} for row, sample in zip(rows, samples, strict=True)]
    contents = {
        "audio.bin": b"".join(sample.tobytes() for sample in samples),
        "audio.len": np.array([len(sample) for sample in samples], dtype="<i8").tobytes(),
        "samples.jsonl": "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode(),
        "skips.jsonl": b"",
    }
    meta = {
        "schema_version": 2,
        "num_samples": len(samples),
        "num_audio_steps": sum(map(len, samples)),
        "num_skipped": 0,
        "keep_audio": False,
        "preprocessing": _PREPROCESSING,
        "checksums": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "meta.json").write_text(json.dumps(meta))


def released_sblimp() -> tuple[list[dict[str, object]], list[np.ndarray]]:
    """Rows and units of 12 pairs by 2 voices: `group_id` is a comparison, and `pair_id` joins those of all voices."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    units = []
    for pair in range(12):
        for voice in ("a", "b"):
            stem = rng.integers(0, EOS, 4)
            for correct in (True, False):
                ending = [pair % 10, *rng.integers(0, EOS, rng.integers(3, 7))]
                if pair == 3 and voice == "a":
                    ending = [1, 2]  # a tie
                rows.append(
                    {
                        "id": f"sblimp/{pair}/{voice}/{correct}",
                        "dataset": "sblimp",
                        "split": "dev",
                        "speaker": voice,
                        "source_audio_name": f"{pair}{voice}{correct}.wav",
                        "group_id": f"{pair}-{voice}",
                        "pair_id": pair,
                        "correct": correct,
                        "phenomenon": "agreement" if pair < 5 else "binding",
                    }
                )
                units.append(np.array([*stem, *ending]))
    return rows, units
