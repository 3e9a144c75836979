"""`speechscale encode` killed at stated points of progress, or its workers: the next call ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tricks import folder_bytes

from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.codebook import save_codebook
from speechscale.units.kmeans import KMeansSpec, train_kmeans
from speechscale.units.mel import MelEncoder, MelSpec

COMMAND = Path(sys.executable).with_name("speechscale")
UTTERANCES = 120  # one of them empty
WORDS = ("the small bird sang", "in a green tree", "while two old men", "walked down to the river")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest of synthesised sentences, one of them empty, and their codebook."""
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
        for number in range(UTTERANCES)
    ]
    write_manifest(spoken, folder / "manifest.jsonl")
    encoder = MelEncoder(MelSpec())
    waveforms = [w for w in load_waveforms(spoken[:5], folder) if not isinstance(w, Exception)]
    frames = encoder.encode(waveforms)[0]
    save_codebook(
        train_kmeans(frames, KMeansSpec(clusters=20), encoder.identity), folder / "book.safetensors"
    )
    return folder


def encode_command(speech: Path, out: Path, *more: str) -> list[str]:
    return [
        *(str(COMMAND), "encode", str(speech / "manifest.jsonl")),
        *("--code-book", str(speech / "book.safetensors"), "-o", str(out)),
        *("--minutes", "0.1", "--workers", "2", *more),
    ]


def encode(speech: Path, out: Path, *more: str) -> str:
    done = subprocess.run(
        encode_command(speech, out, *more), capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def uninterrupted(speech: Path) -> dict[str, bytes]:
    """The files of an encoding that was not interrupted."""
    printed = encode(speech, speech / "uninterrupted")
    assert f"{UTTERANCES - 1} utterances" in printed and "1 skipped" in printed
    files = folder_bytes(speech / "uninterrupted")
    assert len(shards_of(files)) > 30  # so many that some are missing after a kill
    return files


def shards_of(files: dict[str, bytes]) -> set[str]:
    return {name.split("/")[0] for name in files if name.startswith("shard-")}


def files_of(shard: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name.removeprefix(f"{shard}/"): content
        for name, content in files.items()
        if name.startswith(f"{shard}/")
    }


def shard_names(out: Path) -> set[str]:
    """The shards that are complete."""
    return {path.name for path in out.glob("shard-*")}


def wait_until(reached: Callable[[], bool], running: subprocess.Popen[str], point: str) -> None:
    """Wait for a point of progress of a process that must still be running when it is reached."""
    deadline = time.monotonic() + 120
    while not reached():
        assert running.poll() is None, f"ended (exit status {running.returncode}) before it {point}"
        assert time.monotonic() < deadline, f"did not reach within 120 s the point at which it {point}"
        time.sleep(0.002)


def start_and_kill(
    speech: Path, out: Path, reached: Callable[[], bool], point: str, delay: float = 0.0
) -> None:
    """Start an encoding and kill it `delay` seconds after a point of progress; fails if it has ended by then."""
    running = subprocess.Popen(
        encode_command(speech, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    try:
        wait_until(reached, running, point)
        time.sleep(delay)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == -signal.SIGKILL, "the encoding ended before it was killed"


def kill_after_another_shard(speech: Path, out: Path, delay: float = 0.0) -> None:
    before = len(shard_names(out))
    start_and_kill(speech, out, lambda: len(shard_names(out)) > before, "completed another shard", delay)


def test_encoding_killed_at_stages_of_progress_ends_with_the_same_bytes(
    speech: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed before the first shard, and twice after a further shard; after every kill, shards are missing."""
    out = tmp_path / "out"
    start_and_kill(speech, out, out.exists, "created the folder")
    for _ in range(2):
        kill_after_another_shard(speech, out)
        assert shard_names(out) < shards_of(uninterrupted), "nothing was interrupted: all shards are complete"
        for name in shard_names(out):
            assert folder_bytes(out / name) == files_of(name, uninterrupted)
    encode(speech, out)
    assert folder_bytes(out) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_encoding_killed_at_random_moments_ends_with_the_same_bytes(
    seed: int, speech: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """Killed three times, up to 50 ms after a further shard is complete."""
    rng = random.Random(seed)
    out = tmp_path / "out"
    for _ in range(3):
        kill_after_another_shard(speech, out, rng.uniform(0.0, 0.05))
        assert shard_names(out) < shards_of(uninterrupted), "nothing was interrupted: all shards are complete"
    encode(speech, out)
    assert folder_bytes(out) == uninterrupted


def worker_processes(process: int, command: str = "spawn_main") -> list[int]:
    """The worker processes below a process, by a word of their command line."""
    parents, workers = {process}, []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if parent in parents:
            parents.add(int(folder.name))
            if command in words:
                workers.append(int(folder.name))
    return workers


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
@pytest.mark.parametrize(
    ("engine", "worker_command"),
    [("local", "spawn_main"), pytest.param("ray", "ray::_Actor", marks=pytest.mark.slow)],
)
def test_killed_workers_do_not_change_the_shards(
    engine: str, worker_command: str, speech: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    """One worker is killed after the first shard, and one after the next; both times shards are missing."""
    out = tmp_path / "out"
    running = subprocess.Popen(
        encode_command(speech, out, "--engine", engine),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(2):
            before = len(shard_names(out))
            wait_until(
                lambda: (
                    len(shard_names(out)) > before  # noqa: B023
                    and bool(worker_processes(running.pid, worker_command))
                ),
                running,
                "completed another shard",
            )
            os.kill(worker_processes(running.pid, worker_command)[0], signal.SIGKILL)
            assert shard_names(out) < shards_of(uninterrupted), (
                "nothing was interrupted: all shards are complete"
            )
        printed, error = running.communicate(timeout=300)
    finally:
        running.kill()
    assert (running.returncode, error) == (0, "") and f"{UTTERANCES - 1} utterances" in printed
    assert folder_bytes(out) == uninterrupted


def test_status_prints_what_is_done_and_left(
    speech: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    before = encode(speech, tmp_path / "out", "--status")
    assert (
        before.startswith("done:    0 shards")
        and "left:    " in before
        and f"{UTTERANCES} utterances" in before
    )
    assert not (tmp_path / "out").exists()
    after = encode(speech, speech / "uninterrupted", "--status")
    assert (
        f"{UTTERANCES - 1} utterances" in after
        and "        1  inaudible" in after
        and "left:    0 shards" in after
    )
    assert folder_bytes(speech / "uninterrupted") == uninterrupted


def verify(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "verify", *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
    )


def test_verify_prints_one_line_per_problem(
    speech: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    good = verify(speech / "manifest.jsonl", speech / "book.safetensors", speech / "uninterrupted")
    assert good.returncode == 0 and good.stdout.endswith(" checked, 0 problems.\n")
    listed = tmp_path / "manifest.jsonl"
    lines = (speech / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    listed.write_bytes(b"".join([lines[0], b"{\n", *lines[1:3], b'{"id": 3}\n']))
    for name, content in uninterrupted.items():
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
