"""One result of every stage, stored with the revision of the stage in `stage_results.json`.

A change of results without a new revision fails here, and so does a new revision without a new result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from run_records import run_spec
from toy_shards import PREPROCESSING, counter_samples
from tricks import hear_noise, list_utterances

from speechscale.evals.accuracy import task_accuracies
from speechscale.evals.conventions import PRESETS
from speechscale.evals.score import score_pairs
from speechscale.evals.tasks import read_pairs
from speechscale.laws import fit_table
from speechscale.model.generate import Sampling, generate
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.law import write_law
from speechscale.records.manifest import Synthesis, Utterance
from speechscale.records.revisions import STAGE_REVISIONS, Stage
from speechscale.records.scores import SpecialTokens
from speechscale.records.seal import read_seal
from speechscale.records.shards import Sample, open_shard, open_shards, write_shard
from speechscale.speech.storyworld.corpus import WorldSpec, write_story_corpus
from speechscale.speech.waveforms import load_waveforms
from speechscale.tokens.mixture import Mixture, TrainingCorpus
from speechscale.tokens.subset import write_subset
from speechscale.tokens.text import write_text_shards
from speechscale.tokens.unigram import (
    UnigramSpec,
    UnigramTrainingTask,
    load_unigram,
    plan_token_shards,
    train_unigram_task,
    write_token_shard,
)
from speechscale.train.loop import train_run
from speechscale.units.codebook import Codebook, save_codebook
from speechscale.units.encode import encode_shard, plan_shards
from speechscale.units.formats import UnitFileInfo, read_units
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource

STORED: dict[str, Any] = json.loads(Path(__file__).with_name("stage_results.json").read_text())
# Processors round differently, and laws and losses add up many roundings. Real changes are much larger.
TOLERANCE = 2e-5
EOS = 16  # of `PREPROCESSING`


def story_corpus(folder: Path) -> Any:
    spec = WorldSpec(
        prose=20,
        stories=4,
        test=4,
        items=4,
        items_per_phenomenon=1,
        voices=("en-us",),
        voices_unseen=("en-us+f2",),
    )
    write_story_corpus(spec, folder / "corpus")
    return read_seal(folder / "corpus").files


def speech(folder: Path) -> Any:
    spoken = [
        Utterance(
            id=voice,
            dataset="d",
            split="train",
            transcript="The bird sang.",
            synthesis=Synthesis(engine="espeak-ng", voice=voice, words_per_minute=260, seed=3),
        )
        for voice in ("en-us", "en-us+f2")
    ]
    return [moments(waveform) for waveform in load_waveforms(spoken, folder)]


def kmeans(_: Path) -> Any:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 5)) * 20  # far apart, so that rounding moves no frame to another cluster
    frames = (centres[rng.integers(0, 6, 9_000)] + rng.normal(size=(9_000, 5))).astype(np.float32)
    books = [
        train_kmeans(frames, KMeansSpec(clusters=6, method="lloyd"), {"name": "mel"}),
        train_kmeans(frames, KMeansSpec(clusters=6, method="minibatch"), {"name": "mel"}),
    ]
    return [[moments(book.centroids), moments(book.mean), book.scale] for book in books]


def encode(folder: Path) -> Any:
    manifest = list_utterances(folder / "manifest.jsonl", "a", "bad", "b")
    encoder = MelEncoder(MelSpec())
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    centroids = encoder.encode([noise])[0][:8]
    book = Codebook(centroids, np.zeros(40, np.float32), 1.0, encoder.identity)
    save_codebook(book, folder / "book.safetensors")
    source = SpeechSource(manifest, folder, hear_noise)
    (task,) = plan_shards(source, folder / "book.safetensors", folder / "out", seconds=60)
    encode_shard(task)
    return shard_content(task.folder)


def import_units(folder: Path) -> Any:
    (folder / "units.txt").write_text("a|5 5 7 7 7\nb|1 2\n")
    read_units(folder / "units.txt", UnitFileInfo("fairseq", 10, frame_rate=50.0), folder / "out", 1000)
    return [shard_content(shard.folder) for shard in open_shards(folder / "out")]


def learnt_unigram(folder: Path) -> Path:
    write_shard(
        folder / "units" / "shard-0", counter_samples(np.random.default_rng(0), "a"), [], PREPROCESSING
    )
    train_unigram_task(
        UnigramTrainingTask(folder / "units", UnigramSpec(vocabulary=24, longest=4), folder / "unigram")
    )
    return folder / "unigram"


def unigram(folder: Path) -> Any:
    model = load_unigram(learnt_unigram(folder))
    return [model.lengths.tolist(), model.decode(np.arange(24)).tolist()]


def unigram_tokens(folder: Path) -> Any:
    (task,) = plan_token_shards(folder / "units", learnt_unigram(folder), folder / "tokens")
    write_token_shard(task)
    return shard_content(task.folder)


def transcripts(folder: Path) -> Path:
    samples = [
        Sample(
            name, np.array([1, 2, EOS]), 1.5, {"dataset": name[0], "transcript": text}, np.array([3, 1, 0])
        )
        for name, text in (("a/1", "The cat."), ("b/1", "Zoë."), ("a/2", None))
    ]
    write_shard(folder / "units" / "shard-0", samples, [], PREPROCESSING)
    return folder / "units"


def text_tokens(folder: Path) -> Any:
    write_text_shards(transcripts(folder), folder / "text")
    return [shard_content(shard.folder) for shard in open_shards(folder / "text")]


def subset(folder: Path) -> Any:
    write_subset(transcripts(folder), folder / "subset", "a")
    return [shard_content(shard.folder) for shard in open_shards(folder / "subset")]


def train(folder: Path) -> Any:
    for part, seed in (("train", 0), ("test", 1)):
        write_shard(
            folder / part / "shard-0", counter_samples(np.random.default_rng(seed), part), [], PREPROCESSING
        )
    losses = []
    for preset in ("paper", "modern"):
        spec = run_spec(steps=6, run=preset, peak_lr=1e-2, preset=preset, device="cpu", curve=2)
        record = train_run(spec, open_shards(folder / "train"), open_shards(folder / "test"), folder / preset)
        losses.append([record.params, record.loss, *(point.loss for point in record.curve)])
    corpora = [TrainingCorpus(open_shards(folder / part)) for part in ("train", "test")]
    windows = Mixture(corpora, 8).batch(seed=0, step=1, size=3)
    return {"losses": losses, "windows of a mixture": windows.tolist()}


def fixed_model() -> Transformer:
    """Weights that depend on neither the initialisation nor the random numbers of torch."""
    rng = np.random.default_rng(0)
    model = Transformer(ModelShape(layers=2, dim=16, heads=2, vocabulary=18, context=64, hidden_multiple=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(scale=0.3, size=tuple(parameter.shape))))
    return model.eval()


def score(folder: Path) -> Any:
    rng = np.random.default_rng(0)
    samples = []
    for item in range(4):
        for correct in (True, False):
            contrast = {"contrast": "ab"[item % 2]}
            label = {"task": "t", "group_id": str(item), "pair_id": str(item), "correct": correct} | contrast
            units = np.append([item, *rng.integers(0, EOS, 6)], EOS).astype(np.int16)
            samples.append(Sample(f"{item}-{correct}", units, 1.0, {"extra": label}))
    write_shard(folder / "benchmarks" / "shard-0", samples, [], PREPROCESSING)
    pairs = read_pairs(open_shards(folder / "benchmarks"), [])
    table = score_pairs(
        fixed_model(), pairs, SpecialTokens(before_first=EOS, closing=EOS), dtype=torch.float32
    )
    intervals = [
        [each.accuracy, each.low, each.high, each.effective_items]
        for each in task_accuracies(table, PRESETS["official"])
    ]
    numbers = table.select(pl.selectors.numeric().exclude("frequency")).to_dict(as_series=False)
    return numbers | {"intervals": intervals}


def generate_units(_: Path) -> Any:
    prompts = [np.array([1, 2, 3]), np.array([], dtype=np.int64)]
    return [
        [units.tolist() for units in generate(fixed_model(), prompts, 12, sampling, torch.float32)]
        for sampling in (Sampling(seed=1), Sampling(seed=1, temperature=0.7, top_k=5))
    ]


def fit(folder: Path) -> Any:
    rng = np.random.default_rng(0)
    params = np.repeat([1e6, 4e6, 1.6e7, 6.4e7, 2.56e8], 6)
    tokens = params * np.tile([2, 5, 10, 20, 50, 100], 5)
    loss = (1.6 + 30 * params**-0.27 + 60 * tokens**-0.26) * np.exp(0.002 * rng.normal(size=30))
    scores = 0.5 + 0.45 / (1 + np.exp(3 * (loss - 2.4))) + 0.005 * rng.normal(size=30)
    table = {"params": params, "tokens": tokens, "loss": loss, "sblimp": scores, "sblimp_items": [500] * 30}
    write_law(fit_table(table, bootstrap=100, seed=0), folder / "law.json")
    (law,) = json.loads((folder / "law.json").read_text())["series"].values()
    return {name: numbers(law[name]) for name in ("single_epoch", "forecast", "envelope", "downstream")}


RESULTS: dict[Stage, Callable[[Path], Any]] = {
    "story corpus": story_corpus,
    "speech": speech,
    "k-means": kmeans,
    "encode": encode,
    "import units": import_units,
    "unigram": unigram,
    "unigram tokens": unigram_tokens,
    "text tokens": text_tokens,
    "subset": subset,
    "train": train,
    "score": score,
    "generate": generate_units,
    "fit": fit,
}


def moments(values: np.ndarray) -> list[float]:
    """The shape and sums that depend on values and their order; float sums in double precision."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return [*values.shape, float(np.abs(flat).sum()), float(flat @ np.cos(np.arange(len(flat))))]


def numbers(value: Any) -> list[float]:
    """The numbers of a section of a law file, without its sentences and draws."""
    if isinstance(value, dict):
        return [number for name, part in value.items() if name != "draws" for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def shard_content(folder: Path) -> dict[str, Any]:
    shard = open_shard(folder)
    durations = shard.sample_durations()
    return {
        "vocabulary": shard.vocabulary_size,
        "units": [units.tolist() for units in shard.samples()],
        "durations": None if durations is None else [frames.tolist() for frames in durations],
        "rows": hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest(),
        "skips": [vars(skip) for skip in shard.skips()],
    }


def agree(found: Any, stored: Any, tolerance: float) -> bool:
    """Whether two JSON values are equal, floats up to the tolerance (absolute and relative)."""
    if isinstance(found, dict) and isinstance(stored, dict):
        return found.keys() == stored.keys() and all(
            agree(found[key], stored[key], tolerance) for key in found
        )
    if isinstance(found, list) and isinstance(stored, list):
        return len(found) == len(stored) and all(
            agree(*pair, tolerance) for pair in zip(found, stored, strict=True)
        )
    if isinstance(found, float) and isinstance(stored, float):
        return found == pytest.approx(stored, rel=tolerance, abs=tolerance, nan_ok=True)
    return type(found) is type(stored) and found == stored


def test_every_stage_has_a_result() -> None:
    assert RESULTS.keys() == STAGE_REVISIONS.keys() == STORED.keys()


@pytest.mark.parametrize("stage", STAGE_REVISIONS)
def test_results_change_only_with_the_revision(stage: Stage, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = json.loads(json.dumps(RESULTS[stage](tmp_path)))
    stored, revision = STORED[stage], STAGE_REVISIONS[stage]
    same = agree(found, stored["result"], 1e-3 if stage == "fit" else TOLERANCE)
    instead = f"store revision and result in tests/stage_results.json: {json.dumps(found)}"
    if stored["revision"] == revision:
        assert same, (
            f"the results of the stage {stage!r} changed, and its revision did not: raise it to {revision + 1} in "
            f"records/revisions.py, and {instead}"
        )
    else:
        pytest.fail(f"the stage {stage!r} has a new revision: {instead}")
