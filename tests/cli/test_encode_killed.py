"""`speechscale encode` killed at any moment, or its workers: run again, it ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.codebook import save_codebook
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

COMMAND = Path(sys.executable).with_name("speechscale")
WORDS = ("the small bird sang", "in a green tree", "while two old men", "walked down to the river")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of spoken sentences, one of them empty, and a code book of them."""
    folder = tmp_path_factory.mktemp("speech")
    rng = random.Random(4)
    spoken = [
        Utterance(
            id=f"u{number}",
            dataset="d",
            split="train",
            speaker="v",
            transcript=" ".join(rng.choices(WORDS, k=5)) if number != 5 else "",
            synthesis=Synthesis(engine="espeak-ng", voice="en-us", words_per_minute=320, seed=number),
        )
        for number in range(60)
    ]
    write_manifest(spoken, folder / "manifest.jsonl")
    encoder = MelEncoder(MelSpec())
    some = [sound for sound in load_waveforms(spoken[:5], folder) if not isinstance(sound, Exception)]
    frames = encoder.encode(some)[0]
    save_codebook(
        train_kmeans(frames, KMeansSpec(clusters=20), encoder.identity), folder / "book.safetensors"
    )
    return folder


def command(speech: Path, out: Path, *more: str) -> list[str]:
    return [
        *(
            str(COMMAND),
            "encode",
            str(speech / "manifest.jsonl"),
            "--code-book",
            str(speech / "book.safetensors"),
        ),
        *("-o", str(out), "--minutes", "0.2", "--workers", "2", *more),
    ]


def encode(speech: Path, out: Path, *more: str) -> str:
    done = subprocess.run(command(speech, out, *more), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def whole(speech: Path) -> dict[str, bytes]:
    told = encode(speech, speech / "whole")
    assert "59 utterances" in told and "1 skipped" in told
    return folder_bytes(speech / "whole")


def kill_and_resume(speech: Path, out: Path, moments: list[float]) -> None:
    """Each start is killed so many seconds later, wherever it is; the last one may finish."""
    for moment in moments:
        running = subprocess.Popen(command(speech, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        running.kill()
        running.wait()
    encode(speech, out)


def test_killed_at_random_moments_and_resumed(speech: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    rng = random.Random(9)
    kill_and_resume(speech, tmp_path / "out", [rng.uniform(0.6, 2.2) for _ in range(3)])
    assert folder_bytes(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_more_random_moments(
    seed: int, speech: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(seed)
    kill_and_resume(speech, tmp_path / "out", [rng.uniform(0.2, 3.0) for _ in range(6)])
    assert folder_bytes(tmp_path / "out") == whole


def workers_of(process: int, named: str = "spawn_main") -> list[int]:
    """The worker processes below a process."""
    parents, found = {process}, []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if parent in parents:
            parents.add(int(folder.name))
            if named in words:
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
@pytest.mark.parametrize(
    ("engine", "named"),
    [("local", "spawn_main"), pytest.param("ray", "ray::_Actor", marks=pytest.mark.slow)],
)
def test_killing_workers_changes_nothing_but_time(
    engine: str, named: str, speech: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        command(speech, out, "--engine", engine), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    killed: set[int] = set()
    while running.poll() is None and len(killed) < 3:
        if list(out.glob("shard-*")):  # all are up and at work
            for worker in workers_of(running.pid, named)[:1]:
                os.kill(worker, signal.SIGKILL)
                killed.add(worker)
                time.sleep(0.4)
        time.sleep(0.02)
    told, error = running.communicate(timeout=120)
    assert (running.returncode, error) == (0, "") and "59 utterances" in told
    assert killed
    assert folder_bytes(out) == whole


def test_status_says_what_is_done_and_left(speech: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    before = encode(speech, tmp_path / "out", "--status")
    assert before.startswith("done:    0 shards") and "left:    " in before and "60 utterances" in before
    assert not (tmp_path / "out").exists()
    after = encode(speech, speech / "whole", "--status")
    assert "59 utterances" in after and "        1  inaudible" in after and "left:    0 shards" in after
    assert folder_bytes(speech / "whole") == whole


def verify(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "verify", *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
    )


def test_verify_tells_every_problem_in_a_line(speech: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    good = verify(speech / "manifest.jsonl", speech / "book.safetensors", speech / "whole")
    assert good.returncode == 0 and good.stdout.endswith(" checked, 0 problems.\n")
    listed = tmp_path / "manifest.jsonl"
    lines = (speech / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    listed.write_bytes(b"".join([lines[0], b"{\n", *lines[1:3], b'{"id": 3}\n']))
    for name, content in whole.items():
        path = tmp_path / "shards" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "shards" / "shard-00001" / "audio.bin").write_bytes(b"")
    (tmp_path / "shards" / "shard-00002" / "samples.jsonl").unlink()
    bad = verify(listed, tmp_path / "shards")
    assert bad.returncode == 1 and bad.stderr == ""
    *problems, last = bad.stdout.splitlines()
    shards = tmp_path / "shards"
    assert [problem.split(": ")[0] for problem in problems] == [
        f"{listed}:2",
        f"{listed}:5",
        str(shards / "shard-00001"),
        str(shards / "shard-00002" / "samples.jsonl"),
    ]
    assert last.endswith(f"{len(problems)} problems.")
