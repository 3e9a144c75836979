"""Generation of units by a trained model, after a prompt or from nothing, and their conversion to sound."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from speechscale.compute import choose_device, choose_dtype
from speechscale.errors import UserError
from speechscale.jobs.load_model import require_same_units
from speechscale.model.generate import Sampling, generate
from speechscale.model.shape import ModelShape
from speechscale.records.seal import sealed_folder, sha256_file, write_file
from speechscale.records.shards import Shard, open_shards
from speechscale.speech.audio.write import write_wav
from speechscale.train.checkpoint import MODEL, load_model
from speechscale.units.codebook import load_codebook
from speechscale.units.griffin_lim import FRAMES_PER_UNIT, expand_units, mean_durations, mel_units_to_waveform
from speechscale.units.vocoder import PUBLISHED_SHA256, load_vocoder
from speechscale.workers.progress import spinner

__all__ = ["Generation", "Prompt", "Sampling", "VocoderOptions", "write_continuations"]

GENERATED_SCHEMA = "speechscale.generated/1"
UNITS = "units.jsonl"


@dataclass(frozen=True)
class Prompt:
    """The first units of an utterance in a folder of shards.

    Attributes:
        shards: the folder.
        units: number of units.
        sample: id of the utterance; the first one when None.
    """

    shards: Path
    units: int
    sample: str | None = None


@dataclass(frozen=True)
class VocoderOptions:
    """How units become sound: log-mel units by Griffin-Lim, HuBERT units by a neural vocoder; neither: no sound.

    Attributes:
        codebook: codebook of log-mel units, whose centroids are inverted.
        duration_shards: with a codebook, shards whose mean durations are used; a constant rate when None.
        checkpoint: CodeHiFiGAN checkpoint, which predicts durations itself.
        config: configuration of the checkpoint, JSON.
        sha256: expected hash of the checkpoint.
    """

    codebook: Path | None = None
    duration_shards: Path | None = None
    checkpoint: Path | None = None
    config: Path | None = None
    sha256: str = PUBLISHED_SHA256

    def __post_init__(self) -> None:
        if self.codebook and self.checkpoint:
            raise UserError("give --code-book (log-mel units) or --vocoder (HuBERT units), not both.")
        if self.checkpoint and not self.config:
            raise UserError("--vocoder needs --vocoder-config, the JSON file that was published beside it.")


@dataclass(frozen=True)
class Generation:
    """Summary of a generation: number of continuations that reached EOS, and number of files with sound."""

    ended: int
    audible: int


class _Row(TypedDict):
    """A line of `units.jsonl`."""

    id: str
    prompt: list[int]
    units: list[int]
    ended: bool
    file: str | None


@dataclass(frozen=True)
class _Vocoder:
    """Conversion of units to samples, and the source of their durations, for the seal."""

    sound: Callable[[np.ndarray], np.ndarray]
    durations: str


def write_continuations(
    run: Path,
    out: Path,
    *,
    count: int,
    max_new_tokens: int | None,
    sampling: Sampling,
    prompt: Prompt | None,
    vocoder: VocoderOptions,
) -> Generation:
    """Write `units.jsonl` and the sound of each continuation to a new, sealed folder.

    Args:
        run: folder of a trained run.
        out: folder to create.
        count: number of continuations.
        max_new_tokens: maximum units of each; None: the context without the prompt.
        sampling: how units are drawn.
        prompt: the units to continue; from nothing when None.
        vocoder: how units become sound. A continuation without units has none.

    Raises:
        UserError: the folder exists, or prompt, codebook or vocoder do not fit the model's units.
    """
    with spinner("generating"):
        model, provenance = load_model(run / MODEL)
        shape, codebook = model.shape, provenance.kmeans
        first = _prompt_units(prompt, run / MODEL, shape, codebook) if prompt else np.empty(0, np.int64)
        converter = _load_vocoder(vocoder, shape, codebook)
        max_new_tokens = shape.context - len(first) if max_new_tokens is None else max_new_tokens
        device = choose_device()
        spec = {
            "sampling": asdict(sampling),
            "max_new_tokens": max_new_tokens,
            "durations": converter and converter.durations,
            "prompt": None if prompt is None else {**asdict(prompt), "shards": str(prompt.shards)},
        }
        parents = {"model": sha256_file(run / MODEL)}
        with sealed_folder(
            out, schema=GENERATED_SCHEMA, stage="generate", spec=spec, parents=parents
        ) as staging:
            continuations = generate(
                model.to(device), [first] * count, max_new_tokens, sampling, choose_dtype("auto", device)
            )
            rows = [
                _write_continuation(staging, number, first, units, shape, converter)
                for number, units in enumerate(continuations)
            ]
            write_file(staging / UNITS, "".join(json.dumps(row) + "\n" for row in rows))
    return Generation(sum(row["ended"] for row in rows), sum(row["file"] is not None for row in rows))


def _write_continuation(
    folder: Path,
    number: int,
    prompt: np.ndarray,
    units: np.ndarray,
    shape: ModelShape,
    vocoder: _Vocoder | None,
) -> _Row:
    ended = len(units) > 0 and int(units[-1]) == shape.eos
    spoken = np.concatenate([prompt, units[:-1] if ended else units])
    file = f"{number}.wav" if vocoder and len(spoken) else None
    if vocoder and file:
        write_wav(vocoder.sound(spoken), folder / file)
    return {
        "id": str(number),
        "prompt": prompt.tolist(),
        "units": units.tolist(),
        "ended": ended,
        "file": file,
    }


def _prompt_units(prompt: Prompt, model: Path, shape: ModelShape, codebook: str | None) -> np.ndarray:
    shards = open_shards(prompt.shards)
    if codebook is not None:
        require_same_units(model, codebook, shards[0].preprocessing)
    _check_vocabulary(prompt.shards, shards, shape)
    for shard in shards:
        for row, units in zip(shard.rows(), shard.samples(), strict=True):
            if prompt.sample in (None, row["id"]):
                return units[:-1][: prompt.units].astype(np.int64)
    raise UserError(f"{prompt.shards}: no sample {prompt.sample!r} here; samples.jsonl lists the ids.")


def _load_vocoder(options: VocoderOptions, shape: ModelShape, codebook: str | None) -> _Vocoder | None:
    if options.checkpoint and options.config:
        vocoder = load_vocoder(options.checkpoint, options.config, options.sha256)
        if vocoder.spec.num_embeddings < shape.eos:
            raise UserError(
                f"{options.checkpoint}: has {vocoder.spec.num_embeddings} units, the model has {shape.eos}."
            )
        return _Vocoder(vocoder.synthesize, "predicted by the vocoder")
    if options.codebook is None:
        return None
    book = load_codebook(options.codebook)
    if len(book.centroids) != shape.eos or codebook not in (None, sha256_file(options.codebook)):
        raise UserError(
            f"{options.codebook}: is not the codebook of the model's units "
            f"({shape.eos} units, SHA-256 {codebook or 'not known'})."
        )
    if options.duration_shards is None:
        return _Vocoder(
            lambda units: mel_units_to_waveform(expand_units(units, None), book),
            f"{FRAMES_PER_UNIT:.3f} frames each",
        )
    shards = open_shards(options.duration_shards)
    _check_vocabulary(options.duration_shards, shards, shape)
    means = mean_durations(shards)
    return _Vocoder(
        lambda units: mel_units_to_waveform(expand_units(units, means), book),
        f"means of {options.duration_shards}",
    )


def _check_vocabulary(folder: Path, shards: Sequence[Shard], shape: ModelShape) -> None:
    found = shards[0].vocabulary_size, shards[0].eos
    if found != (shape.vocabulary, shape.eos):
        raise UserError(
            f"{folder}: vocabulary and EOS are {found}, the model's ({shape.vocabulary}, {shape.eos}); "
            "shards of the model's units are wanted."
        )
