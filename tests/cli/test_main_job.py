"""The main job through the installed command: a toy study from nothing to its report, interrupted and picked up."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import polars as pl
import pytest
from interrupting import interrupt
from toy_study import COMMAND, STUDY, speechscale

from speechscale.records.law import read_law
from speechscale.records.runs import read_record
from speechscale.records.runs_table import read_table
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shards


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "toy.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def study(spec: Path) -> Path:
    folder = spec.parent / "study"
    done = speechscale("study", "run", spec, "-o", folder)
    assert "Report:" in done.stdout
    assert done.stderr == ""  # quiet when piped
    return folder


def results(folder: Path) -> dict[str, object]:
    """Everything that must be the same however the study was run: units, losses, scores."""
    units = {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("units/**/*")) if p.is_file()
    }
    records = [read_record(path) for path in sorted(folder.glob("runs/*/record.json"))]
    return units | {r.run: (r.loss, r.loss_se, r.curve, r.scores) for r in records}


def test_study_folder_is_complete(study: Path) -> None:
    for part in ("train", "test", "benchmarks"):
        for shard in open_shards(study / "units" / part):
            verify_shard(shard.folder)
    table = read_table(study / "runs.csv")
    assert len(table) == 6 and set(table["status"]) == {"done"}
    assert {"lexical", "minimal_pairs", "sstorycloze", "tstorycloze", "tstorycloze_unseen"} <= set(
        table.columns
    )
    for run in table["run"]:
        scores = pl.read_parquet(study / "runs" / run / "scores.parquet")
        assert set(scores["condition"]) == {"seen", "unseen"}
        assert set(scores["task"]) == {"lexical", "minimal_pairs", "sstorycloze", "tstorycloze"}
    assert "speech" in read_law(study / "law.json").series
    page = (study / "report.html").read_text()
    assert "<audio" in page and "Toy" in page


def test_run_record_has_all_counts(study: Path) -> None:
    record = read_record(next(iter(sorted(study.glob("runs/*-of-*/record.json")))))
    assert record.flops == 6.0 * record.params * record.tokens < record.flops_exact
    assert record.epochs == pytest.approx(record.tokens / record.unique_tokens) and record.epochs > 1.9
    assert record.bits_per_second and record.loss_se


def test_second_run_repeats_no_stage(study: Path, spec: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.glob("runs/*/record.json")}
    before |= {
        path: path.stat().st_mtime_ns for path in [*study.glob("units/**/meta.json"), study / "law.json"]
    }
    speechscale("study", "run", spec, "-o", study)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("how", "progress", "unfinished"),
    [
        pytest.param(
            signal.SIGINT,
            "units/train/shard-*/meta.json",
            "units/benchmarks/shard-*/meta.json",
            marks=pytest.mark.slow,
        ),
        pytest.param(signal.SIGTERM, "runs/*/progress.json", "runs.csv", marks=pytest.mark.slow),
        (signal.SIGKILL, "runs/*/record.json", "runs.csv"),
    ],
)
def test_interrupted_study_ends_with_the_same_results(
    study: Path, spec: Path, tmp_path: Path, how: signal.Signals, progress: str, unfinished: str
) -> None:
    """The signal comes as soon as a file of `progress` exists, and before any file of `unfinished` does."""
    folder = tmp_path / "again"
    errors = interrupt(
        [COMMAND, "study", "run", spec, "-o", folder],
        lambda: any(folder.glob(progress)),
        how,
        group=how == signal.SIGINT,
    )
    assert "Traceback" not in errors
    assert not any(folder.glob(unfinished))
    speechscale("study", "run", spec, "-o", folder)
    assert results(folder) == results(study)


def test_another_spec_is_refused_by_field(study: Path, spec: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    assert "words_per_minute = 320" in STUDY
    other.write_text(STUDY.replace("words_per_minute = 320", "words_per_minute = 300"))
    done = speechscale("study", "run", other, "-o", study, expect=1)
    assert "spec.world.words_per_minute: found 320, wanted 300" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_plan(study: Path, spec: Path) -> None:
    assert speechscale("study", "status", study).stdout.count(" done ") == 6
    planned = speechscale("study", "plan", spec).stdout
    assert "total" in planned and len(planned.strip().splitlines()) == 8


def test_invalid_study_starts_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(STUDY.replace("prose", "proze"))
    done = speechscale("study", "run", bad, "-o", tmp_path / "out", expect=1)
    assert "unknown key 'world.proze' (did you mean 'prose'?)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(spec: Path) -> None:
    done = speechscale("study", "run", spec, "-o", "/proc/nowhere", expect=1)
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_commands_reproduce_the_stages_of_a_study(study: Path, tmp_path: Path) -> None:
    """Synthesize, manifest, kmeans, encode, train, eval, fit, plan, report: each by itself."""
    text = tmp_path / "lines.txt"
    text.write_text("The dog sleeps.\n\nThe cats sleep near the house.\n" + "A girl sings.\n" * 30)
    spoken = tmp_path / "spoken"
    assert (
        "32 utterances synthesised, 1 skipped"
        in speechscale("synthesize", "--text", text, "-o", spoken).stdout
    )
    (skip,) = (json.loads(line) for line in (spoken / "skips.jsonl").read_text().splitlines())
    assert skip["id"] == "lines/000001"
    (spoken / "audio" / "broken.wav").write_bytes(b"RIFF")
    listed = speechscale("manifest", spoken / "audio", "-o", tmp_path / "listed.jsonl")
    assert "32 utterances" in listed.stdout and "1 skipped: 1 corrupt" in listed.stdout
    assert "broken.wav" in (tmp_path / "listed.skips.jsonl").read_text()
    manifest, book = spoken / "manifest.jsonl", tmp_path / "book.safetensors"
    speechscale("kmeans", manifest, "--clusters", "30", "-o", book)
    encoded = speechscale("encode", manifest, "--code-book", book, "-o", tmp_path / "shards")
    assert "32 utterances" in encoded.stdout
    listed_again = ("--code-book", book, "--root", spoken / "audio", "-o", tmp_path / "listed")
    assert "32 utterances" in speechscale("encode", tmp_path / "listed.jsonl", *listed_again).stdout
    mixed = speechscale(
        "eval", "run", next(study.glob("runs/*")), "--benchmarks", tmp_path / "shards", expect=1
    )
    assert "another codebook" in mixed.stderr
    run = tmp_path / "run.toml"
    run.write_text('run = "one"\nlayers = 1\ndim = 16\nheads = 1\nbatch = 2\ncontext = 128\ntokens = 4000\n')
    train = (
        "train",
        run,
        "--shards",
        study / "units/train",
        "--test",
        study / "units/test",
        "-o",
        tmp_path / "one",
    )
    assert "nats/token" in speechscale(*train).stdout
    scored = speechscale("eval", "run", tmp_path / "one", "--benchmarks", study / "units/benchmarks").stdout
    assert "minimal_pairs.agreement" in scored
    law = tmp_path / "law.json"
    speechscale("fit", study / "runs.csv", "-o", law, "--bootstrap", "100")
    assert "tokens" in speechscale("plan", "--published", "speech", "--flops", "1e20").stdout.lower()
    page = tmp_path / "page.html"
    speechscale("report", study, "-o", page)
    assert page.exists()


def test_encode_fails_when_no_utterance_is_left(tmp_path: Path, study: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": "a", "dataset": "d", "split": "s", "audio": "gone.wav"}\n')
    book = study / "units" / "code_book.safetensors"
    done = speechscale("encode", manifest, "--code-book", book, "-o", tmp_path / "out", expect=1)
    assert "no utterance is left" in done.stderr
    skips = (tmp_path / "out" / "shard-00000" / "skips.jsonl").read_text()
    assert '"reason": "missing"' in skips


VERBS = ["synthesize", "manifest", "kmeans", "encode", "train", "fit", "plan", "simulate", "report"]
VERBS += ["eval prepare", "eval run", "eval text", "eval loss", "study run", "study plan", "study status"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb: str) -> None:
    assert f"speechscale {verb} " in speechscale(*verb.split(), "--help").stdout.split("Example", 1)[1]


def test_exported_and_imported_model_has_the_same_scores(study: Path, tmp_path: Path) -> None:
    best = max(study.glob("runs/*"), key=lambda run: read_record(run / "record.json").params)
    speechscale("export", best, "-o", tmp_path / "llama")
    book = study / "units" / "code_book.safetensors"
    speechscale("import", tmp_path / "llama", "--code-book", book, "-o", tmp_path / "back")
    speechscale("eval", "run", tmp_path / "back", "--benchmarks", study / "units" / "benchmarks")
    assert read_record(tmp_path / "back" / "record.json").scores == read_record(best / "record.json").scores


def test_generate_writes_units_and_sound(study: Path, tmp_path: Path) -> None:
    run = next(study.glob("runs/*"))
    units = study / "units"
    how = [
        "--code-book",
        units / "code_book.safetensors",
        "--duration-shards",
        units / "train",
        "--prompt",
        units / "test",
    ]
    done = speechscale(
        "generate", run, *how, "--prompt-units", "9", "--max-new-tokens", "40", "-o", tmp_path / "said"
    )
    assert "4 sequences" in done.stdout and done.stderr == ""
    rows = [json.loads(line) for line in (tmp_path / "said" / "units.jsonl").read_text().splitlines()]
    assert all((tmp_path / "said" / row["file"]).stat().st_size > 9 * 2 * 640 for row in rows)
