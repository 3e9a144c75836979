"""`speechscale synthesize`: reproducible bytes after a kill and with any number of workers; refusals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from folders import folder_bytes
from process_tree import children_of, is_running, wait_until

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


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tales") / "out"
    assert "120 utterances synthesised, 0 skipped" in synthesize(*TALES, "--workers", "1", "-o", out).stdout
    return out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
def test_killed_command_resumes_to_the_same_bytes(tales: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    all_parts = len(list(tales.glob("audio/part-*/seal.json")))

    def sealed_parts() -> int:
        return len(list(out.glob("audio/part-*/seal.json")))

    for _ in range(2):
        process = subprocess.Popen(
            [COMMAND, "synthesize", *TALES, "--workers", "2", "-o", out], stdout=subprocess.DEVNULL
        )
        before = sealed_parts()
        wait_until(lambda before=before: sealed_parts() > before, seconds=60)
        workers = children_of(process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        wait_until(lambda workers=workers: not any(map(is_running, workers)))  # orphans end by themselves
    assert 2 <= sealed_parts() < all_parts
    modified = {path: path.stat().st_mtime_ns for path in out.glob("audio/part-*/seal.json")}
    synthesize(*TALES, "--workers", "2", "-o", out)
    assert folder_bytes(out) == folder_bytes(tales)
    assert {path: path.stat().st_mtime_ns for path in modified} == modified


def test_second_run_changes_no_file(tales: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tales.glob("audio/*/*")}
    synthesize(*TALES, "-o", tales)
    assert {path: path.stat().st_mtime_ns for path in tales.glob("audio/*/*")} == before


def test_manifest_without_audio_is_synthesised_by_encode(tmp_path: Path) -> None:
    source = tmp_path / "stories.parquet"
    pl.DataFrame(
        {
            "story": ["The dog sleeps.", "", "The cat sings.", "A girl runs."],
            "id": ["a", "b", "c", "d"],
            "split": ["train", "train", "test", "train"],
        }
    ).write_parquet(source)
    out = tmp_path / "out"
    output = synthesize(
        "--text", source, "--text-field", "story", "--limit", "3", "--no-audio", "-o", out
    ).stdout
    assert "2 utterances, to be synthesised whenever they are read, 1 skipped" in output
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
def test_invalid_options_are_refused_before_any_work(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = synthesize(*arguments, "-o", tmp_path / "out", expect=1)
    assert why in done.stderr
    assert not list(tmp_path.glob("out/[!.]*"))


def test_no_speakable_text_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "dots.txt"
    source.write_text("...\n\n,;\n")
    done = synthesize("--text", source, "-o", tmp_path / "out", expect=1)
    assert "none of 3 texts could be synthesised" in done.stderr
    assert len((tmp_path / "out" / "skips.jsonl").read_text().splitlines()) == 3


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = synthesize("--stories", "1", "-o", tmp_path, expect=1)
    assert "holds other files (thesis.tex)" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_locked_folder_is_refused(tales: Path) -> None:
    with exclusive_lock(tales):
        done = synthesize(*TALES, "-o", tales, expect=1)
    assert "another command is at work here" in done.stderr
