"""A study folder as a finished study leaves it, simulated from a known law."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from speechscale.laws.table import fit_table
from speechscale.records.law import LawFile, write_law
from speechscale.records.runs import CurvePoint, RunRecord, Score, write_record
from speechscale.records.runs_table import write_curves, write_table

LAW = {"E": 0.62, "A": 9.0, "B": 190.0, "alpha": 0.30, "beta": 0.42}
SIZES = (50_304, 101_376, 221_952, 442_368, 811_008)
PER_PARAMETER = (2, 4, 8, 20)
UNIQUE = 3_000_000
PHENOMENA = (
    "agreement",
    "agreement_attractor",
    "determiner_noun",
    "anaphor_gender",
    "anaphor_number",
    "argument_structure",
    "irregular_forms",
    "npi_licensing",
    "filler_gap",
)


def law_loss(params: float, tokens: float) -> float:
    return LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]


def simulated_records(seed: int = 1) -> list[RunRecord]:
    """Twenty finished runs, some beyond one epoch, and one that diverged."""
    noise = np.random.default_rng(seed)
    records = [_finished(noise, params, per * params) for params in SIZES for per in PER_PARAMETER]
    diverged = records[-1].model_copy(
        update={
            "run": "speech-811k-x40",
            "status": "diverged",
            "loss": None,
            "loss_se": None,
            "scores": {},
            "note": "loss was nan at step 17; lower the learning rate.",
        }
    )
    return [*records, diverged]


def _finished(noise: np.random.Generator, params: int, tokens: int) -> RunRecord:
    loss = float(law_loss(params, tokens) * np.exp(noise.normal(0, 0.004)))
    steps = 40
    curve = tuple(
        CurvePoint(
            step=25 * step,
            tokens=tokens * step // steps,
            loss=float(loss * (1 + 0.6 * (1 - step / steps) ** 2 + 0.35 * (1 - step / steps) / step**0.5)),
        )
        for step in range(1, steps + 1)
    )
    skill = float(np.clip((1.35 - loss) / 0.5, 0, 1))
    scores = {
        "lexical": 0.45 * skill,
        "minimal_pairs": 0.25 * skill,
        "tstorycloze": 0.12 * skill,
        "sstorycloze": 0.0,
    }
    scores |= {f"minimal_pairs.{name}": skill * 0.4 / (1 + i) for i, name in enumerate(PHENOMENA)}
    return RunRecord(
        run=f"speech-{params // 1000}k-x{tokens // params}",
        series="speech",
        status="done",
        preset="nano",
        seed=1,
        params=params,
        params_total=params + 60_000,
        tokens=tokens,
        unique_tokens=min(tokens, UNIQUE),
        epochs=max(1.0, tokens / UNIQUE) if tokens > UNIQUE else tokens / UNIQUE,
        steps=1000,
        flops=6.0 * params * tokens,
        flops_exact=6.6 * params * tokens,
        loss=loss,
        loss_se=0.003,
        bits_per_second=loss * 24 / np.log(2),
        seconds=tokens / 40_000,
        curve=curve,
        scores={
            f"{task}{ending}": _score(noise, 0.5 + above * share, 60 if "." in task else 500)
            for task, above in scores.items()
            for ending, share in (("", 1.0), ("_unseen", 0.5))
        },
    )


def _score(noise: np.random.Generator, accuracy: float, items: int) -> Score:
    found = noise.binomial(items, accuracy) / items
    half = 1.96 * (found * (1 - found) / items) ** 0.5
    return Score(accuracy=found, low=max(0, found - half), high=min(1, found + half), items=items)


@cache
def fitted_law() -> LawFile:
    """The law of the simulated runs, through the real fit; without phenomena, which would only take time."""
    records = [
        record.model_copy(update={"scores": {k: v for k, v in record.scores.items() if "." not in k}})
        for record in simulated_records()
    ]
    return fit_table(pl.DataFrame([record.row() for record in records]), bootstrap=100)


def write_study(folder: Path, records: list[RunRecord]) -> Path:
    """Write everything that a finished study leaves for its report."""
    for record in records:
        write_record(record, folder / "runs" / record.run / "record.json")
    write_table(records, folder / "runs.csv")
    write_curves(records, folder / "curves.csv")
    write_law(fitted_law(), folder / "law.json")
    (folder / "study.json").write_text(json.dumps(ABOUT))
    (folder / "samples").mkdir()
    texts = ("the old dog sees a cat .", "the girls who know tom like the red boat .")
    for number in range(len(texts)):
        (folder / "samples" / f"{number}.wav").write_bytes(tone(1.5 + number))
    (folder / "samples.json").write_text(
        json.dumps(
            [
                {
                    "id": f"prose-{number}",
                    "text": text,
                    "voice": "en-us",
                    "seconds": 1.5 + number,
                    "file": f"samples/{number}.wav",
                    "units": [(7 * i * i + number) % 96 for i in range(28 + 19 * number)],
                }
                for number, text in enumerate(texts)
            ]
        )
    )
    return folder


def tone(seconds: float) -> bytes:
    rate = 16_000
    time = np.arange(int(seconds * rate)) / rate
    samples = (8000 * np.sin(2 * np.pi * 220 * time) * np.exp(-time)).astype("<i2")
    stream = BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return stream.getvalue()


ABOUT = {
    "name": "nano",
    "title": "A ladder on a laptop",
    "question": "Do small speech language models learn words and grammar from sound alone, and how fast?",
    "spec": {"seed": 1, "units": {"frames_per_second": 25, "clusters": 96}, "voices": ["en-us"]},
    "facts": {
        "audio_hours": 10.8,
        "units": 930_000,
        "units_per_second": 23.9,
        "vocabulary": 97,
        "voices_train": ["en-us"],
        "voices_unseen": ["en-gb", "en-gb-scotland"],
        "word_types": 61,
    },
    "stages": [
        {"name": "stories", "seconds": 1.4, "detail": "24,000 sentences"},
        {"name": "speech", "seconds": 61.0, "detail": "10.8 h of audio"},
        {"name": "units", "seconds": 48.0, "detail": "930 k units"},
        {"name": "train", "seconds": 381.0, "detail": "21 runs"},
        {"name": "scores", "seconds": 55.0, "detail": "4 tasks, 2 conditions"},
        {"name": "laws", "seconds": 3.2, "detail": ""},
    ],
}


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder for tests that only read it."""
    return write_study(tmp_path_factory.mktemp("finished") / "study", simulated_records())


@pytest.fixture
def records() -> list[RunRecord]:
    return simulated_records()


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[[list[RunRecord]], Path]:
    """Writes a study folder of given runs."""
    return lambda records: write_study(tmp_path / "study", records)


@pytest.fixture
def study_folder(make_study: Callable[[list[RunRecord]], Path], records: list[RunRecord]) -> Path:
    return make_study(records)
