"""What a model says: units sampled after a prompt or from nothing, and their sound."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.compute import choose_device, choose_dtype
from speechscale.errors import UserError
from speechscale.jobs.train_run import check_same_units
from speechscale.model.generate import Sampling, generate
from speechscale.model.shape import ModelShape
from speechscale.records.seal import sealed_folder, sha256_file, write_file
from speechscale.records.shards import Shard, open_shards
from speechscale.speech.audio.decode import write_wav
from speechscale.train.checkpoint import MODEL, load_model
from speechscale.units.griffin_lim import FRAMES_PER_UNIT, mean_durations, mel_sound, stretch
from speechscale.units.kmeans import load_code_book
from speechscale.units.vocoder import load_vocoder

GENERATED_SCHEMA = "speechscale.generated/1"
UNITS = "units.jsonl"


@dataclass(frozen=True)
class Prompt:
    """The first `units` units of an utterance in a folder of shards; of the very first when no id is named."""

    shards: Path
    units: int
    sample: str | None = None


@dataclass(frozen=True)
class MelVoice:
    """Log-mel units by their code book; durations are the means in `pace` (a folder of shards), or a constant."""

    code_book: Path
    pace: Path | None = None


@dataclass(frozen=True)
class VocoderVoice:
    """HuBERT units by a vocoder, which foretells durations itself."""

    checkpoint: Path
    config: Path
    sha256: str


Voice = MelVoice | VocoderVoice


def write_continuations(
    run: Path,
    out: Path,
    *,
    count: int,
    most: int | None,
    sampling: Sampling,
    prompt: Prompt | None,
    voice: Voice | None,
) -> tuple[int, int]:
    """`units.jsonl` (prompt, units, whether EOS ended them, file) and a wav each; sealed in `out`.

    Args:
        most: units at most; None: what the context leaves.

    Returns:
        How many sequences reached EOS, and how many have a sound (one without a single unit has none).

    Raises:
        UserError: prompt, code book or vocoder do not go with the model.
    """
    model, provenance = load_model(run / MODEL)
    code_book = provenance["kmeans"]
    first = _prompt_units(prompt, run / MODEL, model.shape, code_book) if prompt else np.empty(0, np.int64)
    speak, durations = _speaker(voice, model.shape, code_book) if voice else (None, None)
    most = model.shape.context - len(first) if most is None else most
    device = choose_device()
    dtype = choose_dtype("auto", device)
    spec = {
        "sampling": asdict(sampling),
        "most": most,
        "durations": durations,
        "prompt": None if prompt is None else {**asdict(prompt), "shards": str(prompt.shards)},
    }
    parents = {"model": sha256_file(run / MODEL)}
    with sealed_folder(out, schema=GENERATED_SCHEMA, stage="generate", spec=spec, parents=parents) as aside:
        made = generate(model.to(device), [first] * count, most, sampling, dtype)
        rows = [
            _write_one(aside, number, first, units, model.shape, speak) for number, units in enumerate(made)
        ]
        write_file(aside / UNITS, "".join(json.dumps(row) + "\n" for row in rows))
    return sum(row["ended"] for row in rows), sum(row["file"] is not None for row in rows)


def _write_one(
    folder: Path,
    number: int,
    prompt: np.ndarray,
    units: np.ndarray,
    shape: ModelShape,
    speak: Callable[[np.ndarray], np.ndarray] | None,
) -> dict[str, Any]:
    ended = len(units) > 0 and int(units[-1]) == shape.eos
    said = np.concatenate([prompt, units[:-1] if ended else units])
    file = f"{number}.wav" if speak and len(said) else None
    if speak and file:
        write_wav(speak(said), folder / file)
    return {
        "id": str(number),
        "prompt": prompt.tolist(),
        "units": units.tolist(),
        "ended": ended,
        "file": file,
    }


def _prompt_units(prompt: Prompt, model: Path, shape: ModelShape, code_book: str | None) -> np.ndarray:
    shards = open_shards(prompt.shards)
    if code_book is not None:
        check_same_units(model, code_book, shards[0].preprocessing)
    _check_vocabulary(prompt.shards, shards, shape)
    for shard in shards:
        for row, units in zip(shard.rows(), shard.samples(), strict=True):
            if prompt.sample in (None, row["id"]):
                return units[:-1][: prompt.units].astype(np.int64)
    raise UserError(f"{prompt.shards}: no sample {prompt.sample!r} here; ids stand in samples.jsonl.")


def _speaker(
    voice: Voice, shape: ModelShape, code_book: str | None
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """The function from units to samples, and where their durations come from."""
    if isinstance(voice, VocoderVoice):
        vocoder = load_vocoder(voice.checkpoint, voice.config, voice.sha256)
        if vocoder.spec.num_embeddings < shape.eos:
            raise UserError(
                f"{voice.checkpoint}: knows {vocoder.spec.num_embeddings} units, the model says {shape.eos}."
            )
        return vocoder.sound, "foretold by the vocoder"
    book = load_code_book(voice.code_book)
    if len(book.centroids) != shape.eos or code_book not in (None, sha256_file(voice.code_book)):
        raise UserError(
            f"{voice.code_book}: is not the code book of the model's units "
            f"({shape.eos} units, SHA-256 {code_book or 'not known'})."
        )
    if voice.pace is None:
        return lambda units: mel_sound(stretch(units, None), book), f"{FRAMES_PER_UNIT:.3f} frames each"
    shards = open_shards(voice.pace)
    _check_vocabulary(voice.pace, shards, shape)
    means = mean_durations(shards)
    return lambda units: mel_sound(stretch(units, means), book), f"means of {voice.pace}"


def _check_vocabulary(folder: Path, shards: Sequence[Shard], shape: ModelShape) -> None:
    found = shards[0].preprocessing["vocab_size"], shards[0].preprocessing["eos_token"]
    if found != (shape.vocabulary, shape.eos):
        raise UserError(
            f"{folder}: vocabulary and EOS are {found}, the model's ({shape.vocabulary}, {shape.eos}); "
            "shards of the model's units are wanted."
        )
