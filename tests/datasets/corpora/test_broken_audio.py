"""Broken audio files and lists, listed and encoded together: every one is encoded or skipped with its reason."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from corpus_files import AUDIO_STRUCT, audio_bytes, noise
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.records.manifest import read_manifest, write_manifest
from speechscale.records.shard_verification import verify_shard
from speechscale.records.shards import open_shards
from speechscale.speech.waveforms import load_waveforms
from speechscale.units.encode import encode_shard, plan_shards
from speechscale.units.kmeans import KMeansSpec
from speechscale.units.learn import CodebookTask, fit_codebook
from speechscale.units.mel import MelEncoder, MelSpec
from speechscale.units.source import SpeechSource

FINE = "encoded"  # outcome; the others are reasons of skips


def encode_audio(
    samples: np.ndarray, rate: int = 16_000, container: str = "WAV", subtype: str | None = None
) -> bytes:
    buffer = BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def cut(data: bytes, share: float = 0.5) -> bytes:
    return data[: round(share * len(data))]


def damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(600) + data[middle + 600 :]


def with_value(value: float) -> bytes:
    samples = noise(1.0)
    samples[8000] = value
    return encode_audio(samples, subtype="FLOAT")


def without_length(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]  # the 36 bits of total samples


def mp3_without_length() -> bytes:
    data = encode_audio(np.concatenate([noise(5.0), np.zeros((80_000, 1))]), container="MP3")
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    return data[:tag] + bytes(4) + data[tag + 4 :]


WAV, FLAC, MP3 = (
    encode_audio(noise(2.0)),
    encode_audio(noise(4.0), container="FLAC"),
    encode_audio(noise(4.0), container="MP3"),
)
OGG = encode_audio(noise(4.0), container="OGG", subtype="VORBIS")
OPUS = encode_audio(noise(4.0), container="OGG", subtype="OPUS")

FILES: dict[str, tuple[bytes, str]] = {
    "good.wav": (WAV, FINE),
    "good.flac": (FLAC, FINE),
    "good.mp3": (MP3, FINE),
    "good.ogg": (OGG, FINE),
    "good.opus": (OPUS, FINE),
    "truncated.wav": (cut(WAV), "cut short"),
    "truncated.flac": (cut(FLAC), "corrupt"),
    "truncated.mp3": (cut(MP3), "corrupt"),
    "truncated.ogg": (cut(OGG), "cut short"),
    "truncated.opus": (cut(OPUS, 0.97), "cut short"),
    "header only.wav": (WAV[:30], "corrupt"),
    "header only.flac": (FLAC[:20], "corrupt"),
    "header only.mp3": (MP3[:20], "corrupt"),
    "zero bytes.wav": (b"", "empty"),
    "zero bytes.mp3": (b"", "empty"),
    "no samples.wav": (encode_audio(noise(0.0)), "empty"),
    "text.wav": (b"this is no audio\n" * 99, "corrupt"),
    "picture.flac": (b"\x89PNG\r\n\x1a\n" + bytes(999), "corrupt"),
    "zeros.ogg": (bytes(5000), "corrupt"),
    "wav inside.mp3": (WAV, FINE),
    "flac inside.wav": (FLAC, FINE),
    "UPPER.WAV": (WAV, FINE),
    "nan.wav": (with_value(np.nan), "not finite"),
    "inf.wav": (with_value(np.inf), "not finite"),
    "huge.wav": (encode_audio(np.full((16_000, 1), 1e300), subtype="DOUBLE"), "not finite"),
    "all zero.wav": (encode_audio(np.zeros(16_000)), FINE),
    "clipped.wav": (encode_audio(np.sign(noise(1.0))), FINE),
    "hundredth of a second.wav": (encode_audio(noise(0.01)), FINE),
    "one sample.wav": (encode_audio(noise(1 / 16_000)), FINE),
    "less than a sample.wav": (encode_audio(noise(1 / 48_000, 192_000), 192_000), "empty"),
    "8 kHz.wav": (encode_audio(noise(1.0, 8000), 8000), FINE),
    "192 kHz.wav": (encode_audio(noise(1.0, 192_000), 192_000), FINE),
    "odd rate.wav": (encode_audio(noise(1.0, 12_345), 12_345), FINE),
    "8 bit.wav": (encode_audio(noise(1.0), subtype="PCM_U8"), FINE),
    "24 bit.wav": (encode_audio(noise(1.0), subtype="PCM_24"), FINE),
    "32 bit float.wav": (encode_audio(noise(1.0), subtype="FLOAT"), FINE),
    "24 bit.flac": (encode_audio(noise(1.0), container="FLAC", subtype="PCM_24"), FINE),
    "8 channels.wav": (encode_audio(noise(1.0, channels=8)), FINE),
    "8 channels.flac": (encode_audio(noise(1.0, channels=8), container="FLAC"), FINE),
    "telephone.wav": (encode_audio(noise(1.0, 8000), 8000, subtype="ULAW"), FINE),
    "damaged.flac": (damaged(FLAC), "corrupt"),
    "damaged.mp3": (damaged(MP3), "corrupt"),
    "damaged.ogg": (damaged(OGG), "corrupt"),
    "damaged.opus": (damaged(OPUS), "corrupt"),
    "no length.flac": (without_length(FLAC), "no length"),
    "no length.mp3": (mp3_without_length(), "cut short"),
    "ünïcode ☃/with  spaces .wav": (WAV, FINE),
    "tab\tand 'quotes\".wav": (WAV, FINE),
}


def line(name: str, **fields: Any) -> tuple[str, str]:
    return name, json.dumps(
        {"id": f"j/{name}", "dataset": "j", "split": "train", "audio": "audio/good.flac"} | fields
    )


LINES: list[tuple[str, str, str]] = [
    (*line("whole"), FINE),
    (*line("a segment", offset=1.0, duration=1.5), FINE),
    (*line("the end of three hours", audio="three hours.flac", offset=10_795.0, duration=5.0), FINE),
    (*line("beyond three hours", audio="three hours.flac", offset=10_795.0, duration=6.0), "beyond the end"),
    (*line("begins beyond the end", offset=5.0), "beyond the end"),
    (*line("empty segment", offset=1.0, duration=1e-9), "empty"),
    (*line("no id", id=""), "bad entry"),
    (*line("id of another kind", id=["x"]), "bad entry"),
    (*line("no dataset", dataset=""), "bad entry"),
    (*line("no split", split=""), "bad entry"),
    (*line("no audio", audio=None), "no audio"),
    (*line("audio of another kind", audio={"path": "x"}), "bad entry"),
    (*line("missing file", audio="audio/none.wav"), "missing"),
    (*line("a folder", audio="audio"), "missing"),
    (*line("escaping", audio="../outside.wav"), "outside"),
    (*line("absolute", audio="/etc/passwd"), "outside"),
    (*line("nul in the path", audio="a\0b.wav"), "missing"),
    (*line("endless path", audio="x" * 5000), "unreadable"),
    (*line("negative rate", sample_rate=-16_000), "bad entry"),
    (*line("negative duration", duration=-1.0), "bad entry"),
    (*line("no duration", duration=0), "bad entry"),
    (*line("duration in words", duration="long"), "bad entry"),
    (*line("duration nan", duration=float("nan")), "bad entry"),
    (*line("duration infinite", duration=float("inf")), "bad entry"),
    (*line("huge duration", duration=1e300), "beyond the end"),
    (*line("negative offset", offset=-0.5), "bad entry"),
    (*line("offset nan", offset=float("nan")), "bad entry"),
    (*line("transcript of another kind", transcript=["a"]), "bad entry"),
    (*line("speaker of another kind", speaker={"a": 1}), "bad entry"),
    (*line("extra of another kind", extra="x"), "bad entry"),
    (*line("negative row", row=-1), "bad entry"),
    (*line("a row of what is no table", row=0), "corrupt"),
    (*line("channel 9", channel=9), "no channel"),
    (*line("broken synthesis", audio=None, synthesis={"engine": "espeak-ng"}), "bad entry"),
    (*line("not unicode", transcript="\ud800"), "bad entry"),
    (*line("whole"), "duplicate id"),
    ("not json", "{", "bad entry"),
    ("not an object", "[1, 2]", "bad entry"),
    ("nested", "[" * 100_000, "bad entry"),
    ("nothing", "{}", "bad entry"),
]

FAIRSEQ: list[tuple[bytes, str]] = [
    (b"good.wav\t32000", FINE),
    ("ünïcode ☃/with  spaces .wav\t32000".encode(), FINE),
    (b"good.flac", "bad entry"),
    (b"\t64000", "bad entry"),
    (b"good.flac\t", "bad entry"),
    (b"good.flac\tmany", "bad entry"),
    (b"good.flac\t0", "bad entry"),
    (b"good.flac\t-5", "bad entry"),
    (b"good.flac\t64000.5", "bad entry"),
    ("good.flac\t\u00b2".encode(), "bad entry"),
    (b"good.flac\t16000", "another length"),
    (b"good.opus\t6400000", "another length"),
    (b"none.flac\t64000", "missing"),
    (b"../../outside.wav\t16000", "outside"),
    (b"\xff\xfe.wav\t16000", "bad entry"),
    (b"good.wav\t32000", "duplicate id"),
]

RECORDING = {
    "id": "r", "sources": [{"type": "file", "channels": [0], "source": "audio/good.flac"}],
    "sampling_rate": 16_000, "num_samples": 64_000, "duration": 4.0, "channel_ids": [0],
}  # fmt: skip


def lhotse_cut(name: Any, recording: Any = RECORDING, **fields: Any) -> dict[str, Any]:
    return {
        "id": name, "start": 1.0, "duration": 2.0, "channel": 0, "supervisions": [], "recording": recording,
        "type": "MonoCut",
    } | fields  # fmt: skip


def source(**fields: Any) -> dict[str, Any]:
    return RECORDING | {"sources": [RECORDING["sources"][0] | fields]}  # type: ignore[index]


LHOTSE: list[tuple[Any, str]] = [
    (lhotse_cut("good"), FINE),
    (RECORDING | {"id": "a whole recording"}, FINE),
    (lhotse_cut(None), "bad entry"),
    (lhotse_cut("no recording", None), "no audio"),
    (lhotse_cut("mixed", tracks=[]), "not plain audio"),
    (lhotse_cut("padding", type="PaddingCut"), "not plain audio"),
    (lhotse_cut("strange type", type="x"), "not plain audio"),
    (lhotse_cut("command", source(type="command", source="cat /etc/passwd")), "no file"),
    (lhotse_cut("address", source(type="url", source="http://localhost/a.wav")), "no file"),
    (lhotse_cut("no path", source(source=None)), "bad entry"),
    (lhotse_cut("missing", source(source="audio/none.flac")), "missing"),
    (lhotse_cut("escaping", source(source="../outside.wav")), "outside"),
    (lhotse_cut("faster", RECORDING | {"transforms": [{"name": "Speed"}]}), "not plain audio"),
    (lhotse_cut("nameless transform", RECORDING | {"transforms": [{}]}), "bad entry"),
    (lhotse_cut("no sources", RECORDING | {"sources": []}), "no channel"),
    (lhotse_cut("channel 1", channel=1), "no channel"),
    (lhotse_cut("no start", start=None), "bad entry"),
    (lhotse_cut("negative start", start=-1), "bad entry"),
    (lhotse_cut("beyond the end", duration=3.5), "beyond the end"),
    (lhotse_cut("supervisions of another kind", supervisions="x"), "bad entry"),
    (RECORDING | {"id": "no rate", "sampling_rate": 0}, "bad entry"),
    (RECORDING | {"id": "no samples", "num_samples": 0}, "bad entry"),
    (RECORDING | {"id": "another length", "num_samples": 99_999}, "another length"),
    ("}{", "bad entry"),
]

ROWS: list[tuple[dict[str, Any] | None, str]] = [
    ({"bytes": WAV, "path": "a.wav"}, FINE),
    ({"bytes": audio_bytes(1.0, 44_100, container="FLAC"), "path": None}, FINE),
    ({"bytes": None, "path": "/etc/passwd"}, "no audio"),
    (None, "no audio"),
    ({"bytes": b"", "path": None}, "no audio"),
    ({"bytes": b"no audio" * 50, "path": None}, "corrupt"),
    ({"bytes": cut(WAV), "path": None}, "cut short"),
    ({"bytes": damaged(FLAC), "path": None}, "corrupt"),
    ({"bytes": with_value(np.nan), "path": None}, "not finite"),
    ({"bytes": MP3, "path": None}, FINE),
]


def make_folder(root: Path) -> dict[str, str]:
    """Write the files, links and folders; returns the expected outcome by id."""
    folder = root / "audio"
    for name, (data, _) in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (root.parent / "outside.wav").write_bytes(WAV)
    (folder / "folder.wav").mkdir()
    (folder / "folder.wav" / "inner.wav").write_bytes(WAV)
    (folder / "loop").symlink_to(folder)
    (folder / "self.wav").symlink_to(folder / "self.wav")
    (folder / "dangling.wav").symlink_to(folder / "nowhere.wav")
    (folder / "leading out.wav").symlink_to(root.parent / "outside.wav")
    os.mkfifo(folder / "pipe.wav")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.wav")).write_bytes(WAV)
    expected = {f"audio/{name}": reason for name, (_, reason) in FILES.items()}
    return expected | {
        "audio/folder.wav/inner.wav": FINE,
        "folder.wav": "missing",
        "loop": "link loop",
        "audio/self.wav": "missing",
        "audio/dangling.wav": "missing",
        "audio/leading out.wav": "outside",
        "audio/pipe.wav": "missing",
        "audio/\udcff.wav": "bad entry",
    }


def make_lists(root: Path) -> dict[str, dict[str, str]]:
    """Write a list in each layout; returns the expected outcomes by id, a repeated id marked as such."""
    with soundfile.SoundFile(root / "three hours.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(180):
            file.write(np.zeros(8000 * 60, np.int16))
    (root / "j.jsonl").write_bytes(b"".join(text.encode() + b"\n" for _, text, _ in LINES) + b"\xff\n\n")
    expected: dict[str, dict[str, str]] = {"j": {f"j.jsonl:{len(LINES) + 1}": "bad entry"}}
    for number, (_, text, reason) in enumerate(LINES, start=1):
        line_id = json.loads(text).get("id") if text.startswith('{"id"') else None
        expected["j"][_unused_name(expected["j"], str(line_id) if line_id else f"j.jsonl:{number}")] = reason

    (root / "f.tsv").write_bytes(b"audio\n" + b"".join(text + b"\n" for text, _ in FAIRSEQ) + b"\n")
    expected["f"] = {}
    for number, (text, reason) in enumerate(FAIRSEQ, start=2):
        well_formed = reason != "bad entry"
        name = f"f/{text.decode().split(chr(9))[0]}" if well_formed else f"f.tsv:{number}"
        expected["f"][_unused_name(expected["f"], name)] = reason

    (root / "l.jsonl").write_text(
        "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x, _ in LHOTSE)
    )
    expected["l"] = {
        (f"l/{x['id']}" if isinstance(x, dict) and x["id"] else f"l.jsonl:{number}"): reason
        for number, (x, reason) in enumerate(LHOTSE, start=1)
    }

    column = pa.array([row for row, _ in ROWS], type=AUDIO_STRUCT)
    pq.write_table(pa.table({"audio": column}), root / "p.parquet", row_group_size=4)
    expected["p"] = {f"p/p/{number}": reason for number, (_, reason) in enumerate(ROWS)}
    return expected


def _unused_name(known: dict[str, str], name: str) -> str:
    return f"{name} (again)" if name in known else name


@pytest.fixture(scope="module")
def batch(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, str], list[tuple[str, str, str]], list[str]]:
    """All files listed by the command and encoded together: expected outcomes, outcomes, outputs of the command."""
    root = tmp_path_factory.mktemp("broken_audio") / "corpus"
    root.mkdir()
    expected = make_folder(root)
    for some in make_lists(root).values():
        expected |= some
    outcomes: list[tuple[str, str, str]] = []
    outputs, utterances = [], []
    for path, layout in (
        ("audio", "folder"), ("j.jsonl", "jsonl"), ("f.tsv", "fairseq"), ("l.jsonl", "lhotse"),
        ("p.parquet", "parquet"),
    ):  # fmt: skip
        out = root.parent / "out" / f"{layout}.jsonl"
        done = CliRunner().invoke(
            app,
            ["manifest", str(root / path), "--layout", layout, "--root", str(root), "-o", str(out)],
            catch_exceptions=False,
        )
        assert done.exit_code == 0, done.output
        outputs.append(done.output)
        utterances += list(read_manifest(out))
        for skip in map(json.loads, out.with_suffix(".skips.jsonl").read_text().splitlines()):
            outcomes.append((skip["id"], skip["reason"], skip["detail"]))

    everything, book, shards = (
        root.parent / "all.jsonl",
        root.parent / "book.safetensors",
        root.parent / "shards",
    )
    write_manifest(utterances, everything)
    spec = KMeansSpec(clusters=8)
    source = SpeechSource(everything, root, load_waveforms)
    fit_codebook(CodebookTask(source, MelEncoder(MelSpec()).identity, spec, book))
    for task in plan_shards(source, book, shards, seconds=30):
        encode_shard(task)
    for shard in open_shards(shards):
        verify_shard(shard.folder)
        outcomes += [(row["id"], FINE, "") for row in shard.rows()]
        outcomes += [(skip.id, skip.reason, skip.detail) for skip in shard.skips()]
    return expected, outcomes, outputs


def test_there_are_enough_cases(batch) -> None:
    expected, _, _ = batch
    assert sum(reason != FINE for reason in expected.values()) >= 90
    assert sum(reason == FINE for reason in expected.values()) >= 30


def test_every_case_has_the_expected_outcome(batch) -> None:
    expected, outcomes, _ = batch
    found: dict[str, str] = {}
    for name, reason, _ in outcomes:
        found[f"{name} (again)" if reason == "duplicate id" else name] = reason
    assert found == expected


def test_nothing_is_lost_and_nothing_is_counted_twice(batch) -> None:
    expected, outcomes, _ = batch
    assert len(outcomes) == len(expected)


def test_every_skip_names_the_place_and_what_to_do_in_one_line(batch) -> None:
    _, outcomes, _ = batch
    for name, reason, detail in outcomes:
        if reason == FINE:
            continue
        assert "\n" not in detail
        assert "; " in detail, (name, reason, detail)
        names_a_file = any(ending in detail for ending in (".jsonl:", ".tsv:", ".parquet: row", "audio/"))
        assert names_a_file or name in detail, (name, detail)


def test_the_command_counts_skips_by_reason(batch) -> None:
    _, _, (folder, jsonl, *_) = batch
    assert "skipped:" in folder and "3 cut short" not in folder
    assert "4 cut short" in folder and "1 link loop" in folder
    assert "1 duplicate id" in jsonl and "2 outside" in jsonl
