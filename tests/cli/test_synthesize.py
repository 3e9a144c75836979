"""`speechscale synthesize` as it is typed: killed and run again, any number of workers, the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from speechscale.records.manifest import read_manifest
from speechscale.records.seal import exclusive_lock

COMMAND = Path(sys.executable).with_name("speechscale")
TALES = ("--stories", "120", "--voice", "en-us", "--voice", "en-us+f2", "--minutes", "1", "--rate", "300")


def synthesize(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, "synthesize", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tales") / "out"
    assert "120 utterances spoken, 0 skipped" in synthesize(*TALES, "--workers", "1", "-o", out).stdout
    return out


def test_killed_at_any_moment_and_run_again_with_other_workers_it_ends_with_the_same_bytes(
    tales: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        process = subprocess.Popen(
            [COMMAND, "synthesize", *TALES, "--workers", "2", "-o", out], stdout=subprocess.DEVNULL
        )
        before = len(list(out.glob("audio/part-*")))
        end = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < end:
            if len(list(out.glob("audio/part-*"))) > before:
                break
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("audio/part-*/seal.json")}
    assert kept
    time.sleep(1.2)  # orphaned workers end by themselves
    synthesize(*TALES, "--workers", "2", "-o", out)
    assert folder_bytes(out) == folder_bytes(tales)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_second_run_speaks_nothing_again(tales: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tales.glob("audio/*/*")}
    synthesize(*TALES, "-o", tales)
    assert {path: path.stat().st_mtime_ns for path in tales.glob("audio/*/*")} == before


def test_parquet_without_audio_is_spoken_when_it_is_encoded(tmp_path: Path) -> None:
    source = tmp_path / "stories.parquet"
    pl.DataFrame(
        {
            "story": ["The dog sleeps.", "", "The cat sings.", "A girl runs."],
            "id": ["a", "b", "c", "d"],
            "split": ["train", "train", "test", "train"],
        }
    ).write_parquet(source)
    out = tmp_path / "out"
    told = synthesize(
        "--text", source, "--text-field", "story", "--limit", "3", "--no-audio", "-o", out
    ).stdout
    assert "2 utterances, to be spoken whenever they are read, 1 skipped" in told
    first, second = read_manifest(out / "manifest.jsonl")
    assert (first.id, first.split, second.id, second.split) == ("a", "train", "c", "test")
    assert not first.audio and not (out / "audio").exists()
    manifest, book, shards = out / "manifest.jsonl", tmp_path / "book.safetensors", tmp_path / "shards"
    for line in (
        ["kmeans", manifest, "--clusters", "5", "-o", book],
        ["encode", manifest, "--code-book", book, "-o", shards],
    ):
        subprocess.run([COMMAND, *map(str, line)], check=True, capture_output=True)
    assert [json.loads(row)["id"] for row in (shards / "shard-00000/samples.jsonl").open()] == ["a", "c"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--voice", "klingon-x"], "--voice: 'klingon-x' cannot speak"),
        (["--engine", "festival"], "there is no speech engine 'festival'"),
        (["--split", ""], "--split: is empty"),
        (["--text", "nowhere.txt"], "nowhere.txt: no such file"),
    ],
)
def test_bad_orders_speak_nothing(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = synthesize(*arguments, "-o", tmp_path / "out", expect=1)
    assert why in done.stderr
    assert not list(tmp_path.glob("out/[!.]*"))


def test_nothing_spoken_is_a_failure_that_says_where_the_reasons_are(tmp_path: Path) -> None:
    source = tmp_path / "dots.txt"
    source.write_text("...\n\n,;\n")
    done = synthesize("--text", source, "-o", tmp_path / "out", expect=1)
    assert "none of 3 texts could be spoken" in done.stderr
    assert len((tmp_path / "out" / "skips.jsonl").read_text().splitlines()) == 3


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = synthesize("--stories", "1", "-o", tmp_path, expect=1)
    assert "holds other things (thesis.tex)" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_left_to_its_user(tales: Path) -> None:
    with exclusive_lock(tales):
        done = synthesize(*TALES, "-o", tales, expect=1)
    assert "another command is at work here" in done.stderr
