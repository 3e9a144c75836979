"""Faulty manifests, codebooks and shards are reported in sentences that name the file and the remedy."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tricks import hear_noise, list_utterances

from speechscale.errors import UserError
from speechscale.jobs.encode import encode_shards
from speechscale.jobs.verify import describe_code, verify_all
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.seal import is_up_to_date, sealed_folder
from speechscale.records.shards import open_shard, open_shards
from speechscale.units.encode import ShardTask, encode_shard, plan_shards
from speechscale.units.source import SpeechSource
from speechscale.workers.local import LocalBackend

Plan = Callable[..., list[ShardTask]]
GOOD = {"id": "a", "dataset": "d", "split": "train", "audio": "a.wav", "duration": 1.0}


def problems(*paths: Path) -> list[str]:
    return [problem for found in verify_all(paths) for problem in found.problems]


def is_a_sentence(problem: str, path: Path) -> None:
    """One line that names the file and ends with something to do."""
    assert str(path) in problem and "\n" not in problem and problem.endswith(".")
    assert re.search(r"again|unique|wanted|[Cc]orrect|remove|choose|make|name|write", problem), problem


# Manifest lines, and a part of the sentence about each.
LINES: dict[str, tuple[bytes, str]] = {
    "cut short": (b'{"id": "a", "dataset": "d"', "not a JSON object"),
    "an array": (b"[1, 2]", "the line"),
    "a number": (b"3", "the line"),
    "no UTF-8": (b'{"id": "\xff\xfe"}', "not a JSON object"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "not a JSON object"),
    "nested without end": (b"[" * 200_000, "not a JSON object"),
    "a number of ten thousand digits": (b'{"row": ' + b"9" * 10_000 + b"}", "not a JSON object"),
    "half a character": (json.dumps(GOOD | {"id": "\ud800"}).encode(), "id: "),
    "no id": (json.dumps({k: v for k, v in GOOD.items() if k != "id"}).encode(), "id: Field required"),
    "an unknown field": (json.dumps(GOOD | {"speeker": "x"}).encode(), "speeker: Extra inputs"),
    **{
        f"{field} {value!r}": (json.dumps(GOOD | {field: value}).encode(), f"{field}: ")
        for field, value in [
            ("id", ""),
            ("id", 3),
            ("id", None),
            ("dataset", ""),
            ("dataset", ["d"]),
            ("split", ""),
            ("split", None),
            ("audio", 7),
            ("row", -1),
            ("row", 1.5),
            ("sample_rate", 0),
            ("sample_rate", "fast"),
            ("duration", 0),
            ("duration", -2.5),
            ("duration", float("nan")),
            ("duration", float("inf")),
            ("duration", "long"),
            ("offset", -0.1),
            ("offset", float("nan")),
            ("transcript", 5),
            ("speaker", {"name": "v"}),
            ("source_revision", 1),
            ("extra", "x"),
        ]
    },
    "synthesis without a voice": (
        json.dumps(GOOD | {"synthesis": {"engine": "e", "words_per_minute": 1, "seed": 0}}).encode(),
        "synthesis.voice: Field required",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_faulty_line_is_reported_with_number_and_field(name: str, tmp_path: Path) -> None:
    line, expected = LINES[name]
    path = tmp_path / "manifest ü.jsonl"
    good = [json.dumps(GOOD | {"id": f"g{number}"}).encode() for number in range(3)]
    path.write_bytes(b"\n".join([good[0], line, good[1], b"", line, good[2]]))
    first, second = problems(path)
    assert first.startswith(f"{path}:2: {expected}") and second.startswith(f"{path}:5: {expected}")
    is_a_sentence(first, path)
    assert len(first) < 400
    with pytest.raises(UserError, match=re.escape(first)):  # found before any encoding
        plan_shards(
            SpeechSource(path, tmp_path, hear_noise), tmp_path / "book", tmp_path / "out", seconds=9.0
        )


def test_repeated_ids_empty_and_missing_manifests(tmp_path: Path) -> None:
    line = json.dumps(GOOD) + "\n"
    (tmp_path / "twice.jsonl").write_text(line + line)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("twice", "empty", "missing", "folder"):
        path = tmp_path / f"{name}.jsonl"
        (problem,) = problems(path)
        is_a_sentence(problem, path)
    assert "twice.jsonl:2: the id 'a' occurs a second time" in problems(tmp_path / "twice.jsonl")[0]


def test_manifest_without_utterances_is_refused(codebook: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    listed = list_utterances(tmp_path / "some.jsonl", "a")
    for path, split in ((tmp_path / "empty.jsonl", None), (listed, "dev")):
        with pytest.raises(UserError, match=r"\.jsonl: lists no utterances.* nothing to encode"):
            source = SpeechSource(path, tmp_path, hear_noise, split)
            plan_shards(source, codebook, tmp_path / "out", seconds=9.0)


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return exec, (f"open({str(self.path)!r}, 'w').write('ran')", "")


def write_book(path: Path, metadata: dict[str, str] | None, **tensors: np.ndarray) -> None:
    from safetensors.numpy import save

    path.write_bytes(save(tensors, metadata=metadata))


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "pickle", "cut short", "no encoder", "no centroids", "folder"]
)
def test_other_file_is_refused_as_codebook(kind: str, codebook: Path, tmp_path: Path) -> None:
    path, centroids = tmp_path / "other.safetensors", np.zeros((4, 40), np.float32)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("centroids: many\n")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    elif kind == "cut short":
        path.write_bytes(codebook.read_bytes()[:-40])
    elif kind == "no encoder":
        write_book(path, None, centroids=centroids, mean=centroids[0], scale=np.ones(1))
    elif kind == "no centroids":
        write_book(path, {"codebook": '{"encoder": {}}'}, mean=centroids[0], scale=np.ones(1))
    elif kind == "folder":
        path.mkdir()
    (problem,) = problems(path)
    assert str(path) in problem and "\n" not in problem and problem.endswith(".")
    listed = list_utterances(tmp_path / "m.jsonl", "a")
    with pytest.raises(UserError, match=r"other\.safetensors"):
        plan_shards(SpeechSource(listed, tmp_path, hear_noise), path, tmp_path / "out", seconds=9.0)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("encoder", "dimension", "expected"),
    [
        ({"bands": 40}, 39, "dimension: found 40, wanted 39"),
        ({"bands": 20}, 40, "dimension: found 20, wanted 40"),
        ({"name": "wav2vec"}, 40, "'wav2vec'"),
        ({"bands": -1}, 40, "greater than or equal to 1"),
        ({"colour": "red"}, 40, "Extra inputs are not permitted"),
    ],
)
def test_codebook_of_another_encoder_is_refused_before_any_shard(
    encoder: dict, dimension: int, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    content = json.dumps({"encoder": {"name": "mel"} | encoder})
    centroids = np.zeros((4, dimension), np.float32)
    write_book(path, {"codebook": content}, centroids=centroids, mean=centroids[0], scale=np.ones(1))
    listed = list_utterances(tmp_path / "m.jsonl", "a", "b")
    first, _ = plan_shards(SpeechSource(listed, tmp_path, hear_noise), path, tmp_path / "out", seconds=1.0)
    with pytest.raises(UserError) as error:
        encode_shard(first)
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.glob("out/shard-*"))


def change_meta(folder: Path, **changes: object) -> None:
    """Changed keys; None takes one out, and a dict is merged."""
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    for key, value in changes.items():
        meta[key] = {**meta[key], **value} if isinstance(value, dict) else value
        if value is None:
            del meta[key]
    path.write_text(json.dumps(meta))


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Other content that was sealed as it is: only looking inside finds it."""
    (folder / name).write_bytes(content)
    change_meta(folder, checksums={name: hashlib.sha256(content).hexdigest()})


def edit_rows(folder: Path, name: str, change: Callable[[list[dict]], object]) -> None:
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    change(rows)
    rewrite(folder, name, "".join(json.dumps(row) + "\n" for row in rows).encode())


def put_unit(folder: Path, position: int, unit: int) -> None:
    units = np.fromfile(folder / "audio.bin", dtype="<i2")
    units[position] = unit
    rewrite(folder, "audio.bin", units.tobytes())


def put_length(folder: Path, position: int, length: int) -> None:
    lengths = np.fromfile(folder / "audio.len", dtype="<i8")
    lengths[position] += length
    rewrite(folder, "audio.len", lengths.tobytes())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def shift_lengths(folder: Path) -> None:
    """The first sample takes a unit of the second: all sums agree."""
    put_length(folder, 0, 1)
    put_length(folder, 1, -1)
    edit_rows(folder, "samples.jsonl", lambda rows: [rows[n].update(audio_steps=(5, 2)[n]) for n in (0, 1)])


# Damage to a shard, and a part of the sentence that reports it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"{name} is missing": (lambda f, name=name: (f / name).unlink(), name)
        for name in ("meta.json", "audio.bin", "audio.len", "samples.jsonl", "skips.jsonl", "durations.bin")
    },
    **{
        f"{name} was changed": (lambda f, name=name: flip(f / name), f"{name}: missing or changed")
        for name in ("audio.bin", "samples.jsonl", "skips.jsonl", "durations.bin")
    },
    "audio.len was changed": (lambda f: flip(f / "audio.len"), "meta.json says"),
    "audio.bin is cut short": (lambda f: (f / "audio.bin").write_bytes(b"\0\0"), "meta.json says"),
    "audio.bin is empty": (lambda f: (f / "audio.bin").write_bytes(b""), "meta.json says"),
    "audio.len has three bytes more": (
        lambda f: (f / "audio.len").write_bytes((f / "audio.len").read_bytes() + b"\0\0\0"),
        "meta.json says",
    ),
    "durations.bin is cut short": (lambda f: rewrite(f, "durations.bin", b"\1\0\0\0"), "another length"),
    "meta.json is cut short": (
        lambda f: (f / "meta.json").write_bytes((f / "meta.json").read_bytes()[:50]),
        "not a shard of units",
    ),
    "meta.json is an array": (
        lambda f: (f / "meta.json").write_text("[]"),
        "the whole: Input should be a valid dictionary",
    ),
    "another schema": (lambda f: change_meta(f, schema_version=1), "schema_version: wanted 2; found 1"),
    "no schema": (lambda f: change_meta(f, schema_version=None), "schema_version: Field required"),
    "no checksums": (lambda f: change_meta(f, checksums=None), "checksums: Field required"),
    "no preprocessing": (lambda f: change_meta(f, preprocessing=None), "preprocessing: Field required"),
    "no count": (lambda f: change_meta(f, num_samples=None), "num_samples: Field required"),
    "a count in words": (
        lambda f: change_meta(f, num_audio_steps="many"),
        "num_audio_steps: Input should be a valid integer; found 'many'",
    ),
    "a negative count": (
        lambda f: change_meta(f, num_skipped=-1),
        "num_skipped: Input should be greater than or equal to 0; found -1",
    ),
    "another count": (lambda f: change_meta(f, num_skipped=7), "meta.json says 7"),
    "no vocabulary": (
        lambda f: change_meta(f, preprocessing={"vocab_size": None}),
        "preprocessing: vocab_size is None, wanted a count",
    ),
    "a smaller vocabulary": (
        lambda f: change_meta(f, preprocessing={"vocab_size": 8}),
        "the vocabulary allows 0 to 7",
    ),
    "a checksum outside": (lambda f: change_meta(f, checksums={"../../x": "0"}), "is outside the folder"),
    "a unit beyond the vocabulary": (lambda f: put_unit(f, 0, 10), "units span"),
    "a negative unit": (lambda f: put_unit(f, 0, -1), "units span -1"),
    "no EOS at the end": (lambda f: put_unit(f, -1, 0), "units must end in EOS"),
    "a length of nothing": (lambda f: put_length(f, 0, -10_000), "meta.json says"),
    "lengths shifted by one": (shift_lengths, "units must end in EOS"),
    "rows of other lengths": (
        lambda f: edit_rows(f, "samples.jsonl", lambda rows: rows[0].update(audio_steps=1)),
        "audio_steps are not the lengths",
    ),
    "rows in another order": (lambda f: edit_rows(f, "samples.jsonl", list.reverse), "audio_steps are not"),
    "a row less": (lambda f: edit_rows(f, "samples.jsonl", list.pop), "audio_steps are not the lengths"),
    "a row without an id": (
        lambda f: edit_rows(f, "samples.jsonl", lambda rows: rows[0].pop("id")),
        "no object with an id",
    ),
    "an id twice": (
        lambda f: edit_rows(f, "samples.jsonl", lambda rows: rows[1].update(id=rows[0]["id"])),
        "repeats an id",
    ),
    "rows that are no JSON": (lambda f: rewrite(f, "samples.jsonl", b"{{\n"), "cannot be read as JSON Lines"),
    "a skip without a reason": (
        lambda f: edit_rows(f, "skips.jsonl", lambda rows: rows[0].pop("reason")),
        "lacks id, reason or detail",
    ),
    "a frame count of nothing": (
        lambda f: rewrite(f, "durations.bin", bytes((f / "durations.bin").stat().st_size)),
        "wanted one duration of a frame or more",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a sound shard of two samples and a skip; made once."""
    from speechscale.records.shards import Sample, Skip, write_shard

    folder = tmp_path_factory.mktemp("made") / "shard-00000"
    samples = [
        Sample(name, np.array(units, np.int16), 1.0, {"speaker": "v"}, np.array([2] * (len(units) - 1) + [0]))
        for name, units in {"a": [1, 2, 3, 8], "b": [4, 5, 8]}.items()
    ]
    made_by = {
        "vocab_size": 10,
        "eos_token": 8,
        "pad_token": 9,
        "plan_num_shards": 1,
        "kmeans": {"sha256": "k"},
    }
    write_shard(folder, samples, [Skip("c", "corrupt", "why")], made_by)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def shard(made: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "shards ü" / "shard-00000"
    folder.mkdir(parents=True)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    assert problems(folder) == [] == problems(folder.parent)
    return folder


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_shard_is_reported(name: str, shard: Path) -> None:
    damage, expected = DAMAGE[name]
    damage(shard)
    found = problems(shard)
    assert any(expected in problem for problem in found)
    for problem in found:
        is_a_sentence(problem, shard)
        assert problem.endswith("remove the shard and encode it again.")


FOUND_BY_OPENING = (  # which reads meta.json, the lengths, and the sizes of the files
    *(f"{name} is missing" for name in ("meta.json", "audio.bin", "audio.len")),
    *(
        "audio.len was changed",
        "audio.bin is cut short",
        "audio.bin is empty",
        "audio.len has three bytes more",
    ),
    *("meta.json is cut short", "meta.json is an array", "another schema", "no schema", "no checksums"),
    *(
        "no preprocessing",
        "no count",
        "a count in words",
        "a negative count",
        "no vocabulary",
        "a length of nothing",
    ),
)


@pytest.mark.parametrize("name", FOUND_BY_OPENING)
def test_opening_reports_what_it_can_find(name: str, shard: Path) -> None:
    DAMAGE[name][0](shard)
    with pytest.raises(UserError) as error:
        open_shard(shard)
    is_a_sentence(str(error.value), shard)


def test_folder_of_shards_is_checked_as_one(shard: Path) -> None:
    """One of two planned; and one made otherwise."""
    change_meta(shard, preprocessing={"plan_num_shards": 2})
    (problem,) = problems(shard.parent)
    assert "1 of 2 shards are here; run the same `encode` again." in problem
    other = shard.with_name("shard-00001")
    other.mkdir()
    for path in shard.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    change_meta(other, preprocessing={"kmeans": {"sha256": "other"}})
    (problem,) = problems(shard.parent)
    assert "kmeans.sha256: found 'other', wanted 'k'" in problem
    with pytest.raises(UserError, match=r"kmeans\.sha256"):
        open_shards(shard.parent)


def test_shards_of_other_tools_may_contain_waveforms(shard: Path) -> None:
    """As the released code does with `--keep-audio`."""
    (shard / "waveforms").mkdir()
    (shard / "waveforms" / "a.flac").write_bytes(b"fLaC")
    change_meta(shard, keep_audio=True, checksums={"waveforms/a.flac": hashlib.sha256(b"fLaC").hexdigest()})
    assert problems(shard) == []
    (shard / "waveforms" / "a.flac").write_bytes(b"else")
    (problem,) = problems(shard)
    assert "a.flac: missing or changed" in problem


def test_sealed_folders_and_other_folders(tmp_path: Path) -> None:
    with sealed_folder(
        tmp_path / "corpus", schema="corpus/1", stage="story corpus", spec={}, parents={}
    ) as staging:
        (staging / "a.txt").write_text("a")
        (staging / "b.txt").write_text("b")
    assert problems(tmp_path / "corpus") == []
    (tmp_path / "corpus" / "a.txt").write_text("x")
    (tmp_path / "corpus" / "b.txt").unlink()
    found = problems(tmp_path)
    assert len(found) == 2 and "a.txt: differs from its seal" in found[0] and "b.txt: missing" in found[1]
    (tmp_path / "bare").mkdir()
    (problem,) = problems(tmp_path / "bare")
    is_a_sentence(problem, tmp_path / "bare")


SEALS = {
    "empty object": ("{}", "not a seal (schema: Field required; found {}); make this stage again."),
    "array": (
        "[]",
        "not a seal (the whole: Input should be a valid dictionary or instance of Seal; found [])",
    ),
    "no spec": ({"spec": None}, "not a seal (spec: Input should be a valid dictionary; found None)"),
    "files in a list": ({"files": ["a.txt"]}, "not a seal (files: Input should be a valid dictionary; found"),
    "revision in words": (
        {"revisions": {"speech": "one"}},
        "not a seal (revisions.speech: Input should be a valid",
    ),
    "another field": ({"colour": "red"}, "not a seal (colour: Extra inputs are not permitted; found 'red')"),
    "cut short": ('{"schema": "cor', "cannot be read ("),
    "file outside": ({"files": {"../x": "0"}}, "lists ../x, which is outside the folder"),
}


@pytest.mark.parametrize("name", SEALS)
def test_broken_seal_is_reported(name: str, tmp_path: Path) -> None:
    damage, expected = SEALS[name]
    folder = tmp_path / "speech"
    with sealed_folder(folder, schema="speech/1", stage="speech", spec={}, parents={}):
        pass
    path = folder / "seal.json"
    sound = json.loads(path.read_text())
    path.write_text(damage if isinstance(damage, str) else json.dumps(sound | damage))
    (problem,) = problems(folder)
    assert problem.startswith(f"{path}: {expected}")
    is_a_sentence(problem, path)
    if name != "file outside":
        with pytest.raises(UserError, match=re.escape(problem)):
            is_up_to_date(folder, schema="speech/1", stage="speech", spec={}, parents={})


def test_artefacts_of_other_code_are_counted(
    shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code is information, not a problem. A commit that changed no source file is the same code."""
    other = CodeIdentity(version="0.0.9", source="0" * 64, commit="f" * 40, clean=True)
    monkeypatch.setattr("speechscale.records.code._adopted", other)
    with sealed_folder(tmp_path / "speech", schema="speech/1", stage="speech", spec={}, parents={}):
        pass
    monkeypatch.undo()
    found = list(verify_all([tmp_path]))
    assert [artefact.problems for artefact in found] == [[], [], []]
    codes = [artefact.code for artefact in found]
    assert codes.count(None) == codes.count(other) == codes.count(code_identity()) == 1
    assert describe_code([*codes, other]) == [
        f"2 made by other code (speechscale 0.0.9, commit ffffffffffff); this is {code_identity()}."
    ]
    assert describe_code([code_identity().model_copy(update={"commit": "f" * 40})]) == []


def test_damaged_shard_stops_an_encoding_before_any_work(plan: Plan, tmp_path: Path) -> None:
    tasks = plan("out", "a", "b", "c")
    for task in tasks:
        encode_shard(task)
    (tmp_path / "out" / "shard-00001" / "audio.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"shard-00001.*remove the shard and encode it again"):
        encode_shards(tasks, LocalBackend(1))
