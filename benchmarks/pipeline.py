"""Speed of encoding from end to end with log-mel units: from audio files, and from text synthesised on the fly.

Files: seconds of audio per second on one core, for several file formats, and the share of each stage. Baseline, in the
same run: reading the file with `soundfile.read`, which only decodes.

Text: shards made from a manifest of texts, without audio files, by one process per core. Baseline, in the same run and
by the same workers: synthesis of the same utterances alone.

    OMP_NUM_THREADS=1 python benchmarks/pipeline.py [--seconds 600] [--stories 1500] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import soundfile
import soxr

from speechscale.compute import available_cores
from speechscale.errors import SampleFault
from speechscale.records.manifest import SAMPLE_RATE, ManifestSlice, Utterance
from speechscale.records.shards import open_shards
from speechscale.speech.audio.decode import load_audio
from speechscale.speech.batch_synthesis import SynthesisOptions, write_text_manifest
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine
from speechscale.speech.texts import StoryTexts
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.codebook import Codebook, load_codebook
from speechscale.units.collapse import collapse
from speechscale.units.encode import ShardTask, encode_shard, plan_shards
from speechscale.units.encoders import load_encoder
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import CodebookTask, fit_codebook
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource
from speechscale.workers.local import LocalBackend
from speechscale.workers.pool import run_tasks

SYNTHESIS = SynthesisOptions(
    dataset="stories",
    split="train",
    engine=ESPEAK,
    voices=("en-us", "en-us+f2", "en-us+m3"),
    words_per_minute=260,
    seed=0,
)
KINDS = {  # name: format, subtype, rate
    "flac 16 kHz": ("FLAC", "PCM_16", 16_000),
    "wav 44.1 kHz": ("WAV", "PCM_16", 44_100),
    "mp3 44.1 kHz": ("MP3", "MPEG_LAYER_III", 44_100),
    "opus 16 kHz": ("OGG", "OPUS", 16_000),
    "opus 48 kHz": ("OGG", "OPUS", 48_000),
}
UTTERANCE = 12.0  # seconds; as long as LibriSpeech's are


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600, help="of audio in files")
    parser.add_argument("--stories", type=int, default=1500, help="to be spoken")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text_manifest(StoryTexts("small", options.stories, 0), SYNTHESIS, folder / "texts")
        manifest, book = folder / "texts" / "manifest.jsonl", folder / "code_book.safetensors"
        identity = MelEncoder(MelSpec()).identity
        source = SpeechSource(manifest, folder, load_waveforms)
        fit_codebook(CodebookTask(source, identity, KMeansSpec(utterances=60), book))
        files_to_units(folder, options.seconds, options.rounds, load_codebook(book))
        text_to_units(folder, source, book, options.rounds)


def files_to_units(folder: Path, seconds: float, rounds: int, book: Codebook) -> None:
    spoken = long_speech(seconds)
    print(
        f"{len(spoken) / SAMPLE_RATE:.0f} s of speech in files of {UTTERANCE:.0f} s, one core, x real time:"
    )
    print(
        f"{'':<14}{'to units':>9}{'read':>9}{'resample':>9}{'frames':>9}{'k-means':>9}  {'/ soundfile.read':>16}"
    )
    for kind, (container, subtype, rate) in KINDS.items():
        place = folder / kind.replace(" ", "-")
        place.mkdir()
        paths = write_files(spoken, rate, place, container, subtype)
        print(kind.ljust(14) + rates(paths, rate, rounds, book))


def rates(paths: list[Path], rate: int, rounds: int, book: Codebook) -> str:
    """One line of the table."""
    encoder = load_encoder(book.encoder)
    raw = [soundfile.read(path, dtype="float32")[0] for path in paths]
    waveforms = [load_audio(path) for path in paths]
    frames = encoder.encode(waveforms)

    def to_units() -> None:
        for waveform in load_waveforms(listed, paths[0].parent):
            assert not isinstance(waveform, SampleFault)
            (some,) = encoder.encode([waveform])
            collapse(book.assign(some))

    listed = [Utterance(id=path.name, dataset="d", split="s", audio=path.name) for path in paths]
    audio = sum(map(len, waveforms)) / SAMPLE_RATE
    spent = timed(
        rounds,
        to_units,
        lambda: [soundfile.read(path, dtype="float32") for path in paths],
        lambda: [soxr.resample(samples, rate, SAMPLE_RATE) for samples in raw if rate != SAMPLE_RATE],
        lambda: encoder.encode(waveforms),
        lambda: [collapse(book.assign(some)) for some in frames],
    )
    shown = [f"{audio / median(some):9.0f}" if median(some) > 1e-4 else f"{'-':>9}" for some in spent]
    ratio = median(a / b for a, b in zip(spent[0], spent[1], strict=True))
    return "".join(shown) + f"  {ratio:16.2f}"


def timed(rounds: int, *methods: Callable[[], object]) -> list[list[float]]:
    """Seconds of each method in each round; the methods alternate."""
    spent: list[list[float]] = [[] for _ in methods]
    for _ in range(rounds):
        for method, some in zip(methods, spent, strict=True):
            started = perf_counter()
            method()
            some.append(perf_counter() - started)
    return spent


def long_speech(seconds: float) -> np.ndarray:
    """Stories one after another, at 16 kHz."""
    texts = (story.text for story in StoryTexts("small", 10**6, seed=1).texts())
    pieces: list[np.ndarray] = []
    with EspeakEngine() as espeak:
        for waveform in espeak.synthesize_all((text, SYNTHESIS.for_voice("en-us")) for text in texts):
            assert not isinstance(waveform, SampleFault)
            pieces.append(waveform)
            if sum(map(len, pieces)) >= seconds * SAMPLE_RATE:
                return np.concatenate(pieces)
    raise AssertionError("the world has no end")


def write_files(spoken: np.ndarray, rate: int, folder: Path, container: str, subtype: str) -> list[Path]:
    step = round(UTTERANCE * SAMPLE_RATE)
    paths = []
    for number, start in enumerate(range(0, len(spoken), step)):
        samples = soxr.resample(spoken[start : start + step], SAMPLE_RATE, rate)
        path = folder / f"{number:05d}.{container.lower()}"
        soundfile.write(path, samples, rate, format=container, subtype=subtype)
        paths.append(path)
    return paths


def text_to_units(folder: Path, source: SpeechSource, book: Path, rounds: int) -> None:
    workers = available_cores()
    tasks = plan_shards(source, book, folder / "planned", seconds=600)
    spent: dict[str, list[float]] = {"units": [], "alone": []}
    for number in range(rounds):
        # The order alternates, so that a machine that becomes warm or busy favours neither.
        for method in ("units", "alone") if number % 2 else ("alone", "units"):
            started = perf_counter()
            if method == "units":
                audio = encoded_seconds(tasks, folder / f"shards-{number}", workers)
            else:
                audio = spoken_seconds([task.manifest_slice for task in tasks], workers)
            spent[method].append(perf_counter() - started)
    print(f"\n{audio:.0f} s of speech in {len(tasks)} shards, {workers} workers:")
    for method, label in (("alone", "speaking alone"), ("units", "text to units")):
        print(f"{label:<16}{audio / median(spent[method]):7.0f} x real time")
    ratio = median(a / b for a, b in zip(spent["units"], spent["alone"], strict=True))
    print(f"text to units / speaking alone time: {ratio:.3f} (wanted: at most 1.15)")


def encoded_seconds(tasks: Sequence[ShardTask], out: Path, workers: int) -> float:
    here = [replace(task, folder=out / task.folder.name) for task in tasks]
    assert len(list(run_tasks(encode_shard, here, label="encode", backend=LocalBackend(workers)))) == len(
        tasks
    )
    return sum(shard.seconds or 0.0 for shard in open_shards(out))


def spoken_seconds(stretches: Sequence[ManifestSlice], workers: int) -> float:
    done = run_tasks(synthesize_only, stretches, label="speak", backend=LocalBackend(workers))
    return sum(seconds for _, seconds in done)


def synthesize_only(manifest_slice: ManifestSlice) -> float:
    waveforms = load_waveforms(list(manifest_slice.utterances()), manifest_slice.manifest.parent)
    return (
        sum(0 if isinstance(waveform, SampleFault) else len(waveform) for waveform in waveforms) / SAMPLE_RATE
    )


if __name__ == "__main__":
    main()
