"""Every layout to a manifest: with the durations of the files, official splits, and whatever is wrong accounted for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from corpus_files import audio, audio_bytes, lines, listed, noise, parquet
from lhotse import AudioSource, CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from speechscale.datasets.corpora import layout_of, open_corpus
from speechscale.datasets.corpora.splits import Splitting
from speechscale.errors import SampleFault, UserError
from speechscale.speech.waveforms import load_waveforms

NO_DRAW = Splitting(share=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "manifest.jsonl"


def test_a_folder_of_audio(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "my corpus"
    for name, seconds, rate in (
        ("b.wav", 0.5, 8000), ("a/ü ö.flac", 1.25, 44_100), ("a/x.ogg", 1.0, 16_000),
        ("A.MP3", 1.0, 24_000), ("z.opus", 0.7, 48_000),
    ):  # fmt: skip
        audio(folder / name.lower(), seconds, rate).rename(folder / name)
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_text("no audio")
    result = listed(folder, out, NO_DRAW)
    assert result.ids == [
        f"my corpus/{name}" for name in ("A.MP3", "a/x.ogg", "a/ü ö.flac", "b.wav", "z.opus")
    ]
    assert [u.duration for u in result.utterances] == [1.0, 1.0, 1.25, 0.5, 0.7]
    assert [u.sample_rate for u in result.utterances] == [24_000, 16_000, 44_100, 8000, 48_000]
    assert result.split("train") == set(result.ids) and not result.skips
    assert all(isinstance(heard, np.ndarray) for heard in load_waveforms(result.utterances, result.root))


def test_folders_named_like_splits_are_splits(tmp_path: Path, out: Path) -> None:
    for name in ("train/a.wav", "test/b.wav", "validation/c.wav", "test-bench/d.wav"):
        audio(tmp_path / "c" / name)
    result = listed(tmp_path / "c", out)
    assert result.split("test") == {"c/test/b.wav"} and result.split("dev") == {"c/validation/c.wav"}
    assert result.split("train") == {"c/train/a.wav", "c/test-bench/d.wav"}


def test_links_are_followed_within_the_corpus_and_no_further(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "c" / "a" / "a.wav")
    audio(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "c" / "again").symlink_to(tmp_path / "c" / "a")
    (tmp_path / "c" / "a" / "loop").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "c" / "b.wav").symlink_to(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "c" / "self.wav").symlink_to(tmp_path / "c" / "self.wav")
    result = listed(tmp_path / "c", out, NO_DRAW)
    assert result.ids == ["c/a/a.wav", "c/again/a.wav"]
    assert result.reasons == {
        "a/loop": "link loop", "again/loop": "link loop", "away": "outside",
        "c/b.wav": "outside", "c/self.wav": "missing",
    }  # fmt: skip


def librispeech(folder: Path) -> Path:
    for subset in ("train-clean-100", "dev-clean", "test-other"):
        for speaker, chapter in (("84", "121"), ("19", "198")):
            place = folder / subset / speaker / chapter
            names = [f"{speaker}-{chapter}-{number:04d}" for number in range(2)]
            for number, name in enumerate(names):
                audio(place / f"{name}.flac", 0.5 + number)
            lines(place / f"{speaker}-{chapter}.trans.txt", [f"{name} WORDS OF {name}" for name in names])
    return folder


def test_librispeech(tmp_path: Path, out: Path) -> None:
    folder = librispeech(tmp_path / "LibriSpeech")
    assert layout_of(folder) == layout_of(folder / "dev-clean") == "librispeech"
    result = listed(folder, out)
    assert len(result.ids) == 4 and len(result.skips) == 8  # the same names in three subsets, made so above
    (tmp_path / "LibriSpeech" / "dev-clean").rename(tmp_path / "dev")
    subset = listed(folder / "test-other", tmp_path / "sub.jsonl", dataset="librispeech")
    utterance = subset.of("librispeech/84-121-0001")
    assert (utterance.speaker, utterance.split, utterance.duration) == ("84", "test", 1.5)
    assert utterance.transcript == "WORDS OF 84-121-0001"
    assert utterance.extra == {"subset": "test-other", "chapter": "121"}
    assert utterance.audio == "84/121/84-121-0001.flac"
    train = listed(folder / "train-clean-100", tmp_path / "train.jsonl")
    assert train.split("train") == set(train.ids) and train.listed.drawn is None  # its test is another folder


def test_fairseq(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "audio"
    names = {"a b/c d.wav": 8000, "tab\there.flac": 4000, "ünï.wav": 16_000}
    for name, samples in names.items():
        audio(root / name, samples / 16_000)
    text = "".join([f"{root}\n", *(f"{name}\t{samples}\n" for name, samples in names.items())])
    for split in ("train", "valid"):
        (tmp_path / f"{split}.tsv").write_text(text)
    result = listed(tmp_path / "train.tsv", out, NO_DRAW, dataset="d")
    assert [(u.audio, u.duration) for u in result.utterances] == [(n, s / 16_000) for n, s in names.items()]
    assert result.root == root.resolve() and not result.skips
    both = listed(tmp_path, out, NO_DRAW, dataset="d", layout="fairseq")
    assert len(both.ids) == 3 and set(both.reasons.values()) == {"duplicate id"}
    (tmp_path / "valid.tsv").write_text(f"{tmp_path}\naudio/ünï.wav\t16000\n")
    with pytest.raises(UserError, match="one root is wanted"):
        listed(tmp_path, out, layout="fairseq")


def test_json_lines_of_the_study_and_their_relations(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "c" / "long.wav", 10, 44_100)
    audio(tmp_path / "c" / "a.flac", 2.0)
    rows = [
        {"id": "s:0", "dataset": "source", "split": "test", "audio": str(tmp_path / "c" / "a.flac"), "duration": None,
         "offset": 0.0, "sample_rate": None, "transcript": None, "speaker": None, "source_revision": "r1", "extra": {}},
        {"id": "s:1", "audio_path": "long.wav", "offset": 1.5, "duration": 2.25, "text": "hello", "speaker": 7,
         "phenomenon": "x", "extra": {"pair": 1}},
        {"audio_filepath": "long.wav", "offset": 9.0},
        {"id": "s:2", "path": "a.flac", "duration": 2.02},
        {"id": "s:3", "audio": None, "transcript": "said again",
         "synthesis": {"engine": "espeak-ng", "voice": "en-us", "words_per_minute": 175, "seed": 0}},
    ]  # fmt: skip
    result = listed(lines(tmp_path / "c" / "list.jsonl", rows), out)
    assert result.skips == []
    first, second, third, rounded, spoken = result.utterances
    assert (first.id, first.dataset, first.split, first.audio, first.duration, first.sample_rate) == (
        "s:0", "source", "test", "a.flac", 2.0, 16_000
    )  # fmt: skip
    assert (second.offset, second.duration, second.transcript, second.speaker) == (1.5, 2.25, "hello", "7")
    assert second.extra == {"phenomenon": "x", "pair": 1} and second.dataset == "list"
    assert (third.duration, third.id) == (1.0, "list/long.wav@9.0")
    assert rounded.duration == 2.0  # a list may round the end
    assert spoken.synthesis and spoken.audio is None
    # its own manifest, listed again, is itself
    again = listed(out, tmp_path / "again.jsonl", root=result.root)
    assert again.utterances == result.utterances


def make_recording(path: Path, name: str, seconds: float = 3.0, **how) -> Recording:
    return Recording.from_file(audio(path, seconds, **how), recording_id=name)


def test_lhotse_recordings_and_cuts_as_lhotse_writes_them(tmp_path: Path, out: Path) -> None:
    one = make_recording(tmp_path / "audio" / "one.flac", "one")
    stereo = noise(2.0, 8000, 1, 2)
    soundfile.write(tmp_path / "audio" / "call.wav", stereo, 8000, subtype="FLOAT")
    call = Recording.from_file(tmp_path / "audio" / "call.wav", recording_id="call")
    recordings = RecordingSet.from_recordings([one, call])
    recordings.to_file(tmp_path / "c_recordings_train.jsonl.gz")
    result = listed(tmp_path / "c_recordings_train.jsonl.gz", out, NO_DRAW, dataset="c")
    assert [(u.id, u.duration) for u in result.utterances] == [("c/one", 3.0), ("c/call", 2.0)]

    said = [
        SupervisionSegment(
            "s1", "one", 0.5, 1.0, text="first", speaker="A", custom={"book": "B"}
        ).with_alignment("word", [AlignmentItem("first", 0.6, 0.25)]),
        SupervisionSegment("s2", "one", 1.75, 1.0, text="second", speaker="A"),
        SupervisionSegment("s3", "call", 0.25, 1.0, channel=1, text="hello", speaker="C"),
    ]
    whole = CutSet.from_manifests(
        recordings=recordings, supervisions=SupervisionSet.from_segments(said)
    ).to_eager()
    trimmed = whole.trim_to_supervisions(keep_overlapping=False).to_eager()
    trimmed.to_file(tmp_path / "c_cuts_test-clean.jsonl.gz")
    assert layout_of(tmp_path / "c_cuts_test-clean.jsonl.gz") == "lhotse"
    result = listed(tmp_path / "c_cuts_test-clean.jsonl.gz", out, dataset="c")
    assert not result.skips and result.split("test") == set(result.ids) and len(result.ids) == 3
    for utterance, cut in zip(result.utterances, trimmed, strict=True):
        assert utterance.id == f"c/{cut.id}"
        assert (utterance.transcript, utterance.speaker) == (
            cut.supervisions[0].text,
            cut.supervisions[0].speaker,
        )
        (heard,) = load_waveforms([utterance], result.root)
        theirs = cut.load_audio()[0]
        if cut.sampling_rate == 16_000:
            assert np.array_equal(heard, theirs)
        else:
            assert np.array_equal(theirs, stereo[2000:10_000, 1])  # one side of the call alone
            assert len(heard) == 2 * len(theirs) and utterance.channel == 1
    assert result.utterances[0].extra == {
        "book": "B", "aligned_text": [{"word": "first", "start_time": 0.1, "end_time": 0.35}]
    }  # fmt: skip

    whole.subset(first=1).to_jsonl(tmp_path / "cuts.jsonl")
    (utterance,) = listed(tmp_path / "cuts.jsonl", out, NO_DRAW, dataset="c").utterances
    assert (utterance.transcript, utterance.speaker, utterance.duration) == ("first second", "A", 3.0)


def test_lhotse_cuts_that_are_more_than_a_stretch_of_a_file(tmp_path: Path, out: Path) -> None:
    one = make_recording(tmp_path / "one.flac", "one")
    cut = one.to_cut()
    channels = [
        AudioSource("file", [0], str(audio(tmp_path / "l.wav"))), AudioSource("file", [1], str(tmp_path / "l.wav"))
    ]  # fmt: skip
    split = Recording("split", channels, 16_000, 8000, 0.5)
    piped = Recording("piped", [AudioSource("command", [0], f"touch {tmp_path}/ran; cat")], 16_000, 8000, 0.5)
    cuts = [
        cut,
        cut.perturb_speed(1.1).with_id("fast"),
        cut.pad(duration=5).with_id("padded"),
        cut.resample(8000).with_id("resampled"),
        split.to_cut(),
        piped.to_cut(),
    ]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    result = listed(tmp_path / "cuts.jsonl.gz", out, NO_DRAW, dataset="c")
    assert result.ids == ["c/one", "c/resampled"]
    assert result.reasons == {
        "c/fast": "not plain audio", "c/padded": "not plain audio", "c/split": "no channel", "c/piped": "no file"
    }  # fmt: skip
    assert not (tmp_path / "ran").exists()


def test_supervisions_alone_are_refused_with_the_command_that_helps(tmp_path: Path, out: Path) -> None:
    said = SupervisionSet.from_segments([SupervisionSegment("s", "one", 0.0, 1.0)])
    said.to_file(tmp_path / "supervisions.jsonl.gz")
    with pytest.raises(UserError, match="lhotse cut simple"):
        listed(tmp_path / "supervisions.jsonl.gz", out, layout="lhotse")


def test_a_list_that_ends_in_the_middle_is_an_error_and_not_a_shorter_corpus(
    tmp_path: Path, out: Path
) -> None:
    rows = [{"id": str(k), "audio": "a.wav"} for k in range(5000)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "list.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not whole"):
        listed(tmp_path / "list.jsonl.gz", out, layout="jsonl")
    assert not out.exists()


def words(text: str) -> list[dict]:
    return [{"word": w, "start_time": k / 4, "end_time": k / 4 + 0.2} for k, w in enumerate(text.split())]


def test_parquet_as_it_lies_on_the_hub(tmp_path: Path, out: Path) -> None:
    """sTinyStories: audio as a struct, text, aligned words; many files, whose names say the split."""
    folder = tmp_path / "sTinyStories"
    for number in range(2):
        texts = [f"Once upon {number} {k}" for k in range(5)]
        parquet(
            folder / "data" / f"train-{number:05d}-of-00002.parquet",
            {
                "text": texts,
                "aligned_text": [words(text) for text in texts],
                "score": [0.5] * 5,
                "blob": [b"x"] * 5,
            },
            sounds=[audio_bytes(0.1 * (k + 1), seed=10 * number + k, container="FLAC") for k in range(5)],
            group=2,
        )
    result = listed(folder, out, NO_DRAW)
    assert layout_of(folder) == "parquet"
    assert [u.duration for u in result.utterances] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5] * 2)
    last = result.utterances[-1]
    assert (last.audio, last.row, last.split) == ("data/train-00001-of-00002.parquet", 4, "train")
    assert last.id == "sTinyStories/data/train-00001-of-00002/4" and last.transcript == "Once upon 1 4"
    assert last.extra == {"aligned_text": words("Once upon 1 4"), "score": 0.5}
    for k, heard in enumerate(load_waveforms(result.utterances, result.root)):
        spoken = noise(0.1 * (k % 5 + 1), seed=10 * (k // 5) + k % 5)[:, 0]
        assert len(heard) == len(spoken) and np.abs(heard - spoken).max() < 2 / 2**15
    backwards = list(load_waveforms(result.utterances[::-1], result.root))
    assert [len(heard) for heard in backwards] == [8000, 6400, 4800, 3200, 1600] * 2


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_parquet_with_a_binary_column_and_ids(tmp_path: Path, out: Path, kind: pa.DataType) -> None:
    table = pa.table(
        {
            "id": ["x", "y"],
            "sound": pa.array([audio_bytes(), audio_bytes(1.0)], type=kind),
            "speaker_id": [19, 84],
            "split": ["train.clean", "validation"],
            "book": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "c.parquet")
    first, second = listed(tmp_path / "c.parquet", out).utterances
    assert (first.id, first.speaker, first.split, first.extra) == ("c/x", "19", "train", {"book": "a"})
    assert (second.id, second.speaker, second.split, second.duration) == ("c/y", "84", "dev", 1.0)


def test_rows_in_order_are_read_in_one_pass(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(
        tmp_path / "c.parquet", {}, sounds=[audio_bytes(0.05, seed=k) for k in range(40)], group=20
    )
    result = listed(path, out, NO_DRAW)
    passes = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **how: passes.append(how["row_groups"]) or real(*a, **how)
    )
    assert all(isinstance(heard, np.ndarray) for heard in load_waveforms(result.utterances, result.root))
    assert passes == [[0], [1]]


def test_a_row_that_is_not_there(tmp_path: Path, out: Path) -> None:
    path = parquet(tmp_path / "c.parquet", {}, sounds=[audio_bytes()])
    (utterance,) = listed(path, out).utterances
    (fault,) = load_waveforms([utterance.model_copy(update={"row": 1})], tmp_path)
    assert isinstance(fault, SampleFault) and fault.reason == "missing" and "has 1 rows" in fault.detail


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path: Path, out: Path) -> None:
    path = parquet(tmp_path / "c.parquet", {}, sounds=[audio_bytes(seed=k) for k in range(6)], group=2)
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data = bytearray(path.read_bytes())
    data[place : place + 200] = bytes(200)
    path.write_bytes(data)
    result = listed(path, out, NO_DRAW)
    assert [u.row for u in result.utterances] == [0, 1, 4, 5]
    assert result.reasons == {"c/c/2": "corrupt", "c/c/3": "corrupt"}
    given = [result.utterances[0].model_copy(update={"row": row, "id": str(row)}) for row in range(6)]
    heard = [isinstance(one, np.ndarray) for one in load_waveforms(given, tmp_path)]
    assert heard == [True, True, False, False, True, True]


def test_stated_durations_are_compared_with_the_files_unless_trusted(tmp_path: Path, out: Path) -> None:
    audio(tmp_path / "a.wav", 1.0)
    rows = [{"id": "a", "audio": "a.wav", "duration": 5.0}, {"id": "b", "audio": "none.wav", "duration": 1.0}]
    rows.append({"id": "c", "audio": "a.wav", "duration": 0.5})
    path = lines(tmp_path / "list.jsonl", rows)
    checked = listed(path, out, NO_DRAW)
    assert checked.ids == ["c"] and checked.reasons == {"a": "beyond the end", "b": "missing"}
    trusted = listed(path, out, NO_DRAW, trust_durations=True)
    assert trusted.ids == ["a", "c"] and trusted.reasons == {"b": "missing"}

    recording = make_recording(tmp_path / "one.wav", "one")
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "r.jsonl.gz")
    audio(tmp_path / "one.wav", 2.0)  # after it was listed
    with pytest.raises(UserError, match="none of 1 utterances can be used"):
        listed(tmp_path / "r.jsonl.gz", out)
    (skip,) = out.with_suffix(".skips.jsonl").read_text().splitlines()
    assert json.loads(skip)["reason"] == "another length"


def test_what_is_no_corpus(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_corpus(tmp_path / "none")
    with pytest.raises(UserError, match="did you mean 'parquet'"):
        open_corpus(tmp_path, "parket")
    with pytest.raises(UserError, match="or say --layout"):
        open_corpus(audio(tmp_path / "a.wav"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio here"):
        listed(tmp_path / "empty", out)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(UserError, match="none of 1 utterances"):
        listed(tmp_path / "text.parquet", out)
    assert "no column holds audio bytes; found text" in out.with_suffix(".skips.jsonl").read_text()
    with pytest.raises(UserError, match="is the corpus itself"):
        listed(lines(tmp_path / "m.jsonl", [{"audio": "a.wav"}]), tmp_path / "m.jsonl")
