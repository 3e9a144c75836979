"""Every layout of a benchmark to labelled pairs, in miniature copies with the traps of the real ones."""

from __future__ import annotations

import csv
import json
import random
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import AUDIO_STRUCT, audio, audio_bytes, lines
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.datasets.benchmarks import LAYOUTS, layout_of, open_benchmark
from speechscale.datasets.benchmarks.counts import OFFICIAL, Count, differences
from speechscale.datasets.benchmarks.jsonlines import nesting
from speechscale.datasets.benchmarks.listing import Prepared, prepare_benchmark
from speechscale.datasets.benchmarks.members import task_named
from speechscale.errors import UserError
from speechscale.records.items import Label
from speechscale.records.manifest import Utterance, read_manifest
from speechscale.records.shards import Skip
from speechscale.speech.audio.decode import Recording
from speechscale.speech.waveforms import load_waveforms


class Result:
    """What a manifest says, by utterance."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.utterances = list(read_manifest(prepared.manifest))
        self.labels = {utterance.id: Label.model_validate(utterance.extra) for utterance in self.utterances}
        self.of = {utterance.id: utterance for utterance in self.utterances}
        self.skips = skips_of(prepared.skips)

    @property
    def pairs(self) -> dict[str, tuple[Utterance, Utterance]]:
        """Correct and wrong member, by pair id; neighbours in the manifest."""
        found = {}
        for correct, wrong in zip(self.utterances[::2], self.utterances[1::2], strict=True):
            labels = [self.labels[utterance.id] for utterance in (correct, wrong)]
            assert labels[0].pair_id == labels[1].pair_id and [label.correct for label in labels] == [
                True,
                False,
            ]
            assert labels[0].pair_id not in found
            found[labels[0].pair_id] = (correct, wrong)
        return found


def skips_of(path: Path) -> list[Skip]:
    return [Skip(**json.loads(line)) for line in path.read_text().splitlines()]


def prepared(path: Path, out: Path, *, incomplete: bool = False, **how: Any) -> Result:
    return Result(prepare_benchmark(open_benchmark(path, **how), out, incomplete=incomplete))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def short(path: Path, seed: int = 0) -> Path:
    return audio(path, 0.06, seed=seed)


# --- ZeroSpeech ------------------------------------------------------------------------------------------------

LEXICAL = ["filename", "id", "voice", "frequency", "word", "phones", "length", "correct"]
SYNTACTIC = ["filename", "id", "voice", "type", "subtype", "transcription", "correct"]


def gold(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def lexical_rows(name: str = "dev", spelled: bool = False) -> list[dict[str, Any]]:
    """Two voices of four words, stems that tell nothing; a word spelled nan, one that pandas would lose."""
    words = [
        ("nan", "N AE1 N", 7),
        ("null", "N AH1 L", 120),
        ("brick", "B R IH1 K", 3),
        ("zyzzyva", "Z IH1 Z", 0),
    ]
    rows = []
    for number, (word, phones, frequency) in enumerate(words):
        for voice in ("A", "B"):
            shared = {"id": number, "voice": voice, "length": len(phones.split())}
            rows.append(shared | {"word": word, "phones": phones, "frequency": frequency, "correct": 1})
            wrong = f"{word}k" if spelled else ""
            rows.append(shared | {"word": wrong, "phones": f"{phones} K", "frequency": "", "correct": 0})
    shuffled = random.Random(name)
    for row in rows:
        row["filename"] = "".join(shuffled.choices("abcdefXYZ", k=8)) + name
    shuffled.shuffle(rows)
    return rows


def syntactic_rows(name: str = "dev") -> list[dict[str, Any]]:
    """Ids begin anew in each subtype, and ungrammatical rows come in another order than grammatical ones."""
    rows = []
    for kind, subtype in (("agreement", "determiner"), ("agreement", "anaphor"), ("npi", "only")):
        for number in (1, 2):
            for voice in ("A", "B"):
                for correct in (1, 0):
                    rows.append(
                        {"id": number, "voice": voice, "type": kind, "subtype": subtype, "correct": correct,
                         "transcription": f"{kind}, {subtype} {number} is {'right' if correct else 'wrong'}"}
                    )  # fmt: skip
    rows.sort(key=lambda row: (row["correct"], row["voice"] if row["correct"] else row["subtype"]))
    for number, row in enumerate(rows):
        row["filename"] = f"{name}{number * 7919 % 1000:03d}q"
    return rows


def zerospeech(root: Path, sets: tuple[str, ...] = ("dev",)) -> Path:
    for name in sets:
        for kind, columns, rows in (
            ("lexical", LEXICAL, lexical_rows(name)),
            ("syntactic", SYNTACTIC, syntactic_rows(name)),
        ):
            gold(root / kind / name / "gold.csv", columns, rows)
            for row in rows:
                short(root / kind / name / f"{row['filename']}.wav")
    return root


def test_words_and_non_words_are_joined_by_id_and_voice(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset")
    assert (
        layout_of(root) == layout_of(root / "lexical") == layout_of(root / "lexical" / "dev") == "zerospeech"
    )
    result = prepared(root / "lexical", out)
    assert len(result.pairs) == 8 and result.prepared.groups == {("swuggy", "dev"): 4}
    by_stem = {row["filename"]: row for row in lexical_rows()}
    for name, (correct, wrong) in result.pairs.items():
        right, other = (by_stem[utterance.id.rpartition("/")[2]] for utterance in (correct, wrong))
        assert (right["id"], right["voice"]) == (other["id"], other["voice"])
        assert (right["correct"], other["correct"]) == (1, 0)
        label = result.labels[correct.id]
        assert (label.task, label.group_id) == ("swuggy", f"dev/{right['id']}")
        assert name == f"{label.group_id}/{right['voice']}"
        # the non-word says how frequent the word is that it was made from: bands are bands of pairs
        assert label.frequency == result.labels[wrong.id].frequency == right["frequency"]
        assert (correct.speaker, correct.split, label.condition) == (right["voice"], "dev", "dev")


def test_where_no_non_word_is_spelled_phones_are_the_text_of_both(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset") / "lexical"
    texts = {(u.transcript, w.transcript) for u, w in prepared(root, out).pairs.values()}
    assert ("N AE1 N", "N AE1 N K") in texts and len(texts) == 4


def test_words_that_look_like_missing_values_stay_words(tmp_path: Path, out: Path) -> None:
    rows = lexical_rows(spelled=True)
    root = tmp_path / "sLM21-dataset"
    gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, rows)
    for row in rows:
        short(root / "lexical" / "dev" / f"{row['filename']}.wav")
    texts = {(u.transcript, w.transcript) for u, w in prepared(root, out).pairs.values()}
    assert texts == {("nan", "nank"), ("null", "nullk"), ("brick", "brickk"), ("zyzzyva", "zyzzyvak")}
    only = [row | {"word": row["word"] if row["word"] != "nullk" else "NaN"} for row in rows]
    gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, only)
    texts = {(u.transcript, w.transcript) for u, w in prepared(root, out).pairs.values()}
    assert ("null", "N AH1 L K") in texts and ("nan", "nank") in texts


def test_sentences_are_joined_by_type_subtype_id_and_voice_and_not_by_rows(tmp_path: Path, out: Path) -> None:
    result = prepared(zerospeech(tmp_path / "sLM21-dataset") / "syntactic", out)
    assert len(result.pairs) == 12
    for correct, wrong in result.pairs.values():
        right, other = correct.transcript or "", wrong.transcript or ""
        assert right.endswith("is right") and other == right.replace("right", "wrong")
        assert result.labels[correct.id].phenomenon == right.split(",")[0]
        assert correct.speaker == wrong.speaker
    kinds = ("agreement/determiner", "agreement/anaphor", "npi/only")
    assert {label.group_id for label in result.labels.values()} == {
        f"dev/{k}/{n}" for k in kinds for n in (1, 2)
    }
    row_order = (
        [row for row in syntactic_rows() if row["correct"]],
        [r for r in syntactic_rows() if not r["correct"]],
    )
    assert any(a["id"] != b["id"] or a["voice"] != b["voice"] for a, b in zip(*row_order, strict=True))


def test_the_whole_dataset_and_what_differs_from_it(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset", ("dev", "test"))
    (root / "syntactic" / "test" / "gold.csv").unlink()
    short(root / "lexical" / "dev" / "unlisted.wav")
    result = prepared(root, out)
    assert result.prepared.pairs == {("swuggy", "dev"): 8, ("swuggy", "test"): 8, ("sblimp", "dev"): 12}
    assert result.prepared.notes == [
        "syntactic/test left out: no gold.csv there",
        "lexical/dev: 17 wavs but 16 rows of gold.csv; only these are read",
        "swuggy dev: 4 items, officially 5,000 (4,996 fewer)",
        "swuggy test: 4 items, officially 20,000 (19,996 fewer)",
        "sblimp dev: 6 items, officially 6,300 (6,294 fewer)",
        "sblimp dev: 12 pairs of recordings, officially 25,200 (25,188 fewer)",
        "sblimp dev: 2 voices, officially 4 (2 fewer)",
    ]
    assert all(
        isinstance(heard, object) and len(heard) for heard in load_waveforms(result.utterances[:4], root)
    )


def test_gold_that_the_index_names(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset")
    (root / "gold").mkdir()
    item = {"item_type": "file_item", "file_type": "csv", "relative_path": True, "file": "gold/words.csv"}
    (root / "lexical" / "dev" / "gold.csv").rename(root / "gold" / "words.csv")
    index = {"subsets": {"lexical_dev": {"items": {"gold": item}}, "syntactic_dev": {"items": {}}}}
    (root / "index.json").write_text(json.dumps(index))
    assert prepared(root, out).prepared.pairs == {("swuggy", "dev"): 8, ("sblimp", "dev"): 12}
    item["file"] = "../elsewhere.csv"
    (root / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: .*lies outside"):
        prepared(root, out)
    (root / "index.json").write_text("[]")
    with pytest.raises(UserError, match="not the index of a dataset"):
        prepared(root, out)


def test_an_archive_without_gold_says_where_gold_is(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "zerospeech2021-dataset")
    for path in root.rglob("gold.csv"):
        path.unlink()
    with pytest.raises(UserError, match=r"no such file, and without it nobody knows.*zrc datasets:pull"):
        prepared(root, out)


@pytest.mark.parametrize("column", ["voice", "correct", "phones"])
def test_a_gold_file_without_a_column(tmp_path: Path, out: Path, column: str) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset")
    gold(root / "lexical" / "dev" / "gold.csv", [name for name in LEXICAL if name != column], lexical_rows())
    with pytest.raises(UserError, match=f"no column {column}; found .*wanted filename, id"):
        prepared(root, out)


def broken(tmp_path: Path, rows: list[dict[str, Any]], name: str = "sLM21-dataset") -> Path:
    """A dataset of sentences with these rows, and the wavs of the sound ones."""
    root = tmp_path / name
    gold(root / "syntactic" / "dev" / "gold.csv", SYNTACTIC, rows)
    for row in syntactic_rows():
        short(root / "syntactic" / "dev" / f"{row['filename']}.wav")
    return root


def refused(root: Path, out: Path, **how: Any) -> tuple[str, list[Skip], Result]:
    """The sentence about a benchmark, the list of what is wrong, and what is left without it."""
    with pytest.raises(UserError) as caught:
        prepared(root, out, **how)
    assert not (out / "manifest.jsonl").exists()
    skips = skips_of(out / "manifest.skips.jsonl")
    left = prepared(root, out, incomplete=True, **how)
    assert left.skips == skips and left.prepared.reasons.total() == len(skips)
    return str(caught.value), skips, left


def test_a_sentence_without_its_twin_is_named_and_may_be_left_out(tmp_path: Path, out: Path) -> None:
    rows = syntactic_rows()
    gone = next(row for row in rows if row["subtype"] == "only" and row["id"] == 2 and not row["correct"])
    told_apart = {key: gone[key] for key in ("filename", "correct", "transcription")}
    twin = next(row for row in rows if row is not gone and row | told_apart == gone)
    told, skips, left = refused(broken(tmp_path, [row for row in rows if row is not gone]), out)
    name = f"sblimp/dev/npi/only/2/{gone['voice']}"
    assert f"1 of 12 pairs cannot be used: 1 without twin ({name}: only its correct member" in told
    assert twin["filename"] in told and "--incomplete" in told
    assert skips[0].id == name and len(left.pairs) == 11


def test_every_fault_of_a_gold_file_is_named_and_counted(tmp_path: Path, out: Path) -> None:
    rows = [dict(row) for row in syntactic_rows()]
    by = {(r["subtype"], r["id"], r["voice"], r["correct"]): r for r in rows}
    by["only", 1, "A", 0]["correct"] = 2
    by["only", 1, "B", 1]["correct"] = "yes"
    by["only", 2, "A", 0]["filename"] = by["only", 2, "B", 0]["filename"]  # a stem twice: two pairs are lost
    by["anaphor", 1, "A", 1]["filename"] = "../../../outside"
    third = {**by["anaphor", 2, "A", 0], "filename": by["only", 2, "A", 1]["filename"]}
    root = broken(tmp_path, [row for row in rows if row is not by["only", 2, "A", 1]])
    (root / "syntactic" / "dev" / f"{by['anaphor', 1, 'B', 0]['filename']}.wav").unlink()
    (root / "syntactic" / "dev" / f"{by['determiner', 1, 'A', 0]['filename']}.wav").write_bytes(b"")
    short(tmp_path / "outside.wav")
    with (root / "syntactic" / "dev" / "gold.csv").open("a") as stream:
        csv.DictWriter(stream, SYNTACTIC).writerow(third)
        stream.write("too,few,cells\n")
    told, skips, left = refused(root, out)
    reasons = {skip.id: skip.reason for skip in skips}
    assert reasons == {
        "sblimp/dev/npi/only/1/A": "bad label",
        "sblimp/dev/npi/only/1/B": "bad label",
        "sblimp/dev/npi/only/2/A": "listed twice",
        "sblimp/dev/npi/only/2/B": "listed twice",
        "sblimp/dev/agreement/anaphor/1/A": "outside",
        "sblimp/dev/agreement/anaphor/1/B": "missing",
        "sblimp/dev/agreement/anaphor/2/A": "not two members",
        "sblimp/dev/agreement/determiner/1/A": "empty",
        "syntactic/dev/gold.csv:26": "bad entry",
    }
    assert "9 of 13 pairs cannot be used" in told and "2 bad label (syntactic/dev/gold.csv:" in told
    assert "correct is '2', wanted 0 or 1" in told and "outside" in told
    details = {skip.id: skip.detail for skip in skips}
    assert "wanted one correct and one wrong, found correct" in details["sblimp/dev/agreement/anaphor/2/A"]
    assert len(left.pairs) == 4 and "9 left out: 2" in str(left.prepared)


def test_nothing_left_is_an_error_even_so(tmp_path: Path, out: Path) -> None:
    rows = [row for row in syntactic_rows() if row["correct"]]
    with pytest.raises(UserError, match="12 of 12 pairs cannot be used: 12 without twin"):
        prepared(broken(tmp_path, rows), out, incomplete=True)
    with pytest.raises(UserError, match="no recordings here"):
        prepared(broken(tmp_path, [], "empty"), out)


def test_frequencies_that_are_no_counts(tmp_path: Path, out: Path) -> None:
    root, rows = zerospeech(tmp_path / "sLM21-dataset"), lexical_rows()
    rows[0]["frequency"], rows[1]["frequency"] = "often", "-3"
    gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, rows)
    _, skips, _ = refused(root / "lexical", out)
    assert {skip.reason for skip in skips} == {"bad entry"} and "wanted a count" in skips[0].detail


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broken(tmp_path_factory.mktemp("sentences"), syntactic_rows())


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(24)))
def test_the_order_of_rows_means_nothing(sentences: Path, order: list[int]) -> None:
    rows = syntactic_rows()
    gold(sentences / "syntactic" / "dev" / "gold.csv", SYNTACTIC, [rows[index] for index in order])
    pairs = prepared(sentences, sentences.parent / "out").pairs
    wanted = {
        f"dev/{row['type']}/{row['subtype']}/{row['id']}/{row['voice']}": {
            other["filename"] for other in rows if row | {k: other[k] for k in _OWN} == other
        }
        for row in rows
    }
    assert {k: {u.id.rpartition("/")[2] for u in pair} for k, pair in pairs.items()} == wanted


_OWN = ("filename", "correct", "transcription")  # of a member; all else is the pair's


# --- StoryCloze ------------------------------------------------------------------------------------------------


def test_stories_whose_file_part_numbers_recordings(tmp_path: Path, out: Path) -> None:
    """The release: 0_<story>_correct.wav and 1_<story>_incorrect.wav, so that only the pair part joins."""
    folder = tmp_path / "tSC"
    for number, story in enumerate(("138d5bfb-05cc", "b929f263-1dcd")):
        short(folder / f"{2 * number}_{story}_correct.wav")
        short(folder / f"{2 * number + 1}_{story}_incorrect.wav")
    (folder / "._0_138d5bfb-05cc_correct.wav").write_bytes(b"left behind by an archive")
    assert layout_of(folder) == "storycloze"
    result = prepared(folder, out)
    assert {name: (a.id, b.id) for name, (a, b) in result.pairs.items()} == {
        "138d5bfb-05cc": ("tstorycloze/0_138d5bfb-05cc_correct", "tstorycloze/1_138d5bfb-05cc_incorrect"),
        "b929f263-1dcd": ("tstorycloze/2_b929f263-1dcd_correct", "tstorycloze/3_b929f263-1dcd_incorrect"),
    }
    assert result.prepared.notes == ["tstorycloze: 2 items, officially 1,871 (1,869 fewer)"]


def test_stories_whose_file_part_names_the_story(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "stories"
    for file in ("a_b_c", "a_b", "a"):
        for pair in ("0", "1"):
            for label in ("correct", "incorrect"):
                short(folder / f"{file}_{pair}_{label}.wav")
    with pytest.raises(UserError, match="does not say which task it is; say it with --task"):
        prepared(folder, out)
    result = prepared(folder, out, task="sstorycloze")
    assert set(result.pairs) == {f"{file}_{pair}" for file in ("a_b_c", "a_b", "a") for pair in "01"}
    assert result.labels["sstorycloze/a_b_0_correct"].group_id == "a_b_0"


def test_a_story_without_its_twin_and_names_that_are_none(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "sStoryCloze"
    for name in ("0_x_correct", "1_x_incorrect", "2_y_correct", "readme_correctly", "4_z_incorrect"):
        short(folder / f"{name}.wav")
    told, skips, left = refused(folder, out)
    assert {skip.id: skip.reason for skip in skips} == {
        "readme_correctly.wav": "bad name", "sstorycloze/y": "without twin", "sstorycloze/z": "without twin"
    }  # fmt: skip
    assert "2_y_correct.wav, and no wrong one" in told and set(left.pairs) == {"x"}
    for name in ("x_mutual", "x_correct", "x_incorrect"):
        short(tmp_path / "cm_sSC" / f"1_{name}.wav")
    with pytest.raises(UserError, match="prompt and endings lie in files of their own"):
        prepared(tmp_path / "cm_sSC", out)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("tStoryCloze", "tstorycloze"), ("sStoryCloze", "sstorycloze"), ("ms_sSC", "sstorycloze"),
        ("tSC", "tstorycloze"),
        ("Topic-Story-Cloze", "tstorycloze"), ("spoken_story_cloze", "sstorycloze"), ("swuggy_inter", "swuggy"),
        ("sBLIMP", "sblimp"), ("salmon_benchmark", "salmon"), ("multispeaker-storycloze", None), ("data", None),
    ],
)  # fmt: skip
def test_tasks_by_the_names_of_folders(name: str, task: str | None) -> None:
    assert task_named(name) == task


# --- Parquet ---------------------------------------------------------------------------------------------------


def hub(
    path: Path, plain: dict[str, list[Any]], sounds: dict[str, list[bytes | None]], group: int = 2
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        name: pa.array([{"bytes": data, "path": f"{name}.wav"} for data in values], type=AUDIO_STRUCT)
        for name, values in sounds.items()
    }
    pq.write_table(pa.table({**plain, **columns}), path, row_group_size=group)
    return path


def stories(path: Path, count: int = 5, **more: list[Any]) -> Path:
    """As slprl/multispeaker-storycloze has them; every recording has its own length."""
    return hub(
        path,
        {
            "id": [f"story-{number}" for number in range(count)],
            "correct_text": [f"It rains {number}. He is wet." for number in range(count)],
            "negative_text": [f"It rains {number}. He is dry." for number in range(count)],
        }
        | more,
        {
            "correct_audio": [audio_bytes(0.1 + number / 100, 24_000, number) for number in range(count)],
            "negative_audio": [audio_bytes(0.5 + number / 100, 24_000, number) for number in range(count)],
        },
    )


def test_stories_of_several_voices_in_parquet(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "multispeaker-storycloze"
    for task in ("sSC", "tSC"):
        for voice in ("bm", "af"):
            stories(root / task / voice / "train-00000-of-00001.parquet")
    assert layout_of(root) == "parquet"
    result = prepared(root, out)
    assert result.prepared.pairs == {("sstorycloze", ""): 10, ("tstorycloze", ""): 10}
    assert result.prepared.groups == {("sstorycloze", ""): 5, ("tstorycloze", ""): 5}
    utterance = result.of["tstorycloze/story-3/bm/wrong"]
    assert (utterance.column, utterance.row, utterance.speaker) == ("negative_audio", 3, "bm")
    assert (utterance.duration, utterance.transcript) == (0.53, "It rains 3. He is dry.")
    assert result.labels[utterance.id].group_id == "story-3"
    heard = list(load_waveforms(result.utterances, root))
    assert [round(len(waveform) / 16_000, 2) for waveform in heard[:4]] == [0.1, 0.5, 0.11, 0.51]
    assert "sstorycloze: 2 voices, officially 4 (2 fewer)" in result.prepared.notes
    one = prepared(root / "sSC" / "bm", tmp_path / "one")
    assert one.prepared.pairs == {("sstorycloze", ""): 5} and one.utterances[0].speaker == "bm"
    file = prepared(root / "sSC" / "af" / "train-00000-of-00001.parquet", tmp_path / "file")
    assert file.utterances[0].id == "sstorycloze/story-0/af/correct"


def test_both_columns_of_a_row_group_are_read_once(tmp_path: Path, out: Path, monkeypatch: Any) -> None:
    """Members of a pair lie in two columns of a row; going from one to the other must not begin the group anew."""
    from speechscale.speech.audio import parquet_audio

    result = prepared(stories(tmp_path / "sSC" / "bm" / "a.parquet", 6), out)
    passes = []
    read = parquet_audio.iter_row_group
    monkeypatch.setattr(parquet_audio, "iter_row_group", lambda *told: passes.append(told[2:]) or read(*told))
    assert all(len(waveform) for waveform in load_waveforms(result.utterances, tmp_path / "sSC" / "bm"))
    assert sorted(passes) == sorted(
        (g, [f"{c}_audio.bytes"]) for g in range(3) for c in ("correct", "negative")
    )


def test_voices_that_have_a_column(tmp_path: Path, out: Path) -> None:
    stories(tmp_path / "tSC" / "train.parquet", 2, speaker=["x", "y"])
    result = prepared(tmp_path / "tSC", out)
    assert set(result.pairs) == {"story-0/x", "story-1/y"}


def test_voices_that_nothing_tells_apart_are_not_mixed_up(tmp_path: Path, out: Path) -> None:
    for file in ("a", "b"):
        stories(tmp_path / "tSC" / f"{file}.parquet", 2)
    with pytest.raises(UserError, match="2 of 2 pairs cannot be used: 2 listed twice"):
        prepared(tmp_path / "tSC", out)


def test_parquet_without_pairs_and_rows_without_sound(tmp_path: Path, out: Path) -> None:
    path = stories(tmp_path / "sSC" / "bm" / "a.parquet", 3)
    table = pq.read_table(path)
    empty = pa.array(
        [{"bytes": None, "path": None}, *table["negative_audio"].to_pylist()[1:]], type=AUDIO_STRUCT
    )
    ids = pa.array(["story-0", "story-1", None])
    pq.write_table(table.set_column(4, "negative_audio", empty).set_column(0, "id", ids), path)
    told, skips, left = refused(path, out)
    assert {skip.reason for skip in skips} == {"no audio", "bad entry"} and set(left.pairs) == {"story-1/bm"}
    assert "row 0 (negative_audio): a.parquet: row 0 has no audio bytes" in told
    pq.write_table(table.drop_columns(["negative_audio"]), path)
    with pytest.raises(UserError, match=r"no pairs by its columns; found id, correct_text.*wanted one of id"):
        prepared(path, out)
    pq.write_table(table.set_column(4, "negative_audio", pa.array(["a.wav"] * 3)), path)
    _, skips, _ = (None, *_refused_entirely(path, out))
    assert {skip.reason for skip in skips} == {"no audio"} and "'negative_audio' holds no audio" in skips[
        0
    ].detail


def _refused_entirely(path: Path, out: Path) -> tuple[list[Skip], None]:
    with pytest.raises(UserError, match="3 of 3 pairs cannot be used"):
        prepared(path, out, incomplete=True)
    return skips_of(out / "manifest.skips.jsonl"), None


# --- SALMon ----------------------------------------------------------------------------------------------------


def test_salmon_as_wavs(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "salmon_benchmark"
    for part in ("bg_alignment", "rir_consistency"):
        for index in (0, 2, 10):
            for option in (0, 1):
                short(root / part / f"sample_{index}_{option}.wav")
    lines(root / "rir_consistency" / "metadata.json", ["[]"])
    assert layout_of(root) == layout_of(root / "bg_alignment") == "salmon"
    result = prepared(root, out)
    assert set(result.pairs) == {f"{p}/{i}" for p in ("bg_alignment", "rir_consistency") for i in (0, 2, 10)}
    correct, wrong = result.pairs["rir_consistency/10"]
    assert (correct.audio, wrong.audio) == (
        "rir_consistency/sample_10_0.wav",
        "rir_consistency/sample_10_1.wav",
    )
    label = result.labels[correct.id]
    assert (label.task, label.condition, label.phenomenon) == ("salmon", "rir_consistency", "rir_consistency")
    assert result.prepared.notes[0].startswith("SALMon has 8 parts, here are 2: no bg_all_consistency, ")
    assert "salmon bg_alignment: 3 items, officially 200 (197 fewer)" in result.prepared.notes
    (
        root / "bg_alignment" / "sample_2_0.wav"
    ).unlink()  # sorted, the other would now be first and so the better
    short(root / "bg_alignment" / "sample_10_2.wav")
    short(root / "bg_alignment" / "sample.wav")
    told, skips, left = refused(root, tmp_path / "again")
    assert {skip.id: skip.reason for skip in skips} == {
        "salmon/bg_alignment/2": "without twin",
        "salmon/bg_alignment/10": "not two members",
        "bg_alignment/sample.wav": "bad name",
    }
    assert "only its wrong member, bg_alignment/sample_2_1.wav" in told and len(left.pairs) == 4


def test_salmon_in_parquet(tmp_path: Path, out: Path) -> None:
    for part in ("bg_alignment", "gender_consistency"):
        hub(
            tmp_path / "SALMon" / part / "train-00000-of-00001.parquet",
            {"task": [part] * 3, "ind": [0, 1, 2]},
            {f"{side}_audio": [audio_bytes(0.06)] * 3 for side in ("positive", "negative")},
        )
    result = prepared(tmp_path / "SALMon", out)
    assert set(result.pairs) == {f"{p}/{i}" for p in ("bg_alignment", "gender_consistency") for i in range(3)}
    correct, wrong = result.pairs["gender_consistency/1"]
    assert (correct.column, wrong.column, correct.row) == ("positive_audio", "negative_audio", 1)
    assert result.labels[correct.id].condition == "gender_consistency"


# --- slamkit ---------------------------------------------------------------------------------------------------


def test_slamkits_trees(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "reference" / "sblimp"
    for folder in ("adjunct_island", "npi"):
        for number in (0, 1, 2, 3, 10, 11):
            short(tree / folder / f"{number}+some_words+A.wav")
    assert layout_of(tree) == "slamkit"
    result = prepared(tree, out)
    assert set(result.pairs) == {
        f"{folder}/{number}" for folder in ("adjunct_island", "npi") for number in (0, 1, 5)
    }
    correct, wrong = result.pairs["npi/5"]  # as text, 10 comes before 2
    assert (correct.audio, wrong.audio) == ("npi/10+some_words+A.wav", "npi/11+some_words+A.wav")
    assert result.labels[correct.id].phenomenon == "npi" and not correct.speaker
    voices = prepared(tree, tmp_path / "voices", subfolders="voice")
    assert voices.prepared.groups == {("sblimp", ""): 3} and voices.prepared.pairs == {("sblimp", ""): 6}
    assert voices.labels["sblimp/npi/10+some_words+A"].voice == "npi"
    with pytest.raises(UserError, match="--subfolders speaker: no such kind; known: voice"):
        prepared(tree, out, subfolders="speaker")


def test_a_missing_file_of_slamkits_tree_does_not_shift_the_others(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "swuggy_inter"
    for number in (0, 1, 3, 4, 5, 6, 7):
        short(tree / "a" / f"{number}_w.wav")
    _, skips, left = refused(tree, out)
    assert [(skip.id, skip.reason) for skip in skips] == [("swuggy/a/1", "without twin")]
    assert {name: (a.audio, b.audio) for name, (a, b) in left.pairs.items()} == {
        f"a/{k}": (f"a/{2 * k}_w.wav", f"a/{2 * k + 1}_w.wav") for k in (0, 2, 3)
    }


def test_numbers_that_slamkit_would_read_otherwise(tmp_path: Path, out: Path) -> None:
    tree = tmp_path / "ms_sSC"
    for name in ("0_x_correct", "1_x_incorrect", "8_s_correct", "9_t_incorrect", "2_y_incorrect",
                 "3_y_correct", "4_z_correct", "4_u_correct",
                 "5_z_incorrect", "6_v_correct", "7_v_incorrect", "notes"):  # fmt: skip
        short(tree / "voice-a" / f"{name}.wav")
    _, skips, left = refused(tree, out, layout="slamkit")
    assert {skip.id: skip.reason for skip in skips} == {
        "sstorycloze/1/voice-a": "labels disagree",
        "sstorycloze/2/voice-a": "same number",
        "sstorycloze/4/voice-a": "labels disagree",  # their names tell two stories
        "voice-a/notes.wav": "bad name",
    }
    assert set(left.pairs) == {"0/voice-a", "3/voice-a"} and left.utterances[0].speaker == "voice-a"
    assert left.labels[left.utterances[2].id].group_id == "v"  # the story, however a voice numbers it
    for number in range(1, 5):
        short(tmp_path / "sblimp" / "a" / f"{number}+w.wav")
    with pytest.raises(UserError, match="numbered from 1 to 4, wanted from an even number"):
        prepared(tmp_path / "sblimp", out)


# --- JSON Lines ------------------------------------------------------------------------------------------------


def our_rows(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for group in ("g1", "g2", "g3"):
        for voice in ("a", "b"):
            for correct in (True, False):
                name = f"{group}-{voice}-{correct}.wav"
                short(folder / "wavs" / name)
                rows.append(
                    {"task": "mine", "group_id": group, "pair_id": f"{group}/{voice}", "voice": voice,
                     "phenomenon": "p", "condition": "c", "correct": correct, "audio": f"wavs/{name}",
                     "text": f"{group} {correct}", "frequency": 3, "prompt_text": group}
                )  # fmt: skip
    return rows


def test_json_lines_of_groups(tmp_path: Path, out: Path) -> None:
    path = lines(tmp_path / "b" / "items.jsonl", reversed(our_rows(tmp_path / "b")))
    assert layout_of(path) == "jsonl" and nesting(path) == "jsonl"
    result = prepared(path, out)
    correct, wrong = result.pairs["g2/b"]
    assert (correct.transcript, wrong.transcript) == ("g2 True", "g2 False")
    label = result.labels[correct.id]
    assert (label.group_id, label.voice, label.phenomenon, label.condition) == ("g2", "b", "p", "c")
    assert (label.frequency, label.prompt_text, correct.speaker) == (3, "g2", "b")
    assert result.prepared.groups == {("mine", "c"): 3} and correct.split == "test"


def test_ids_may_be_numbers(tmp_path: Path, out: Path) -> None:
    rows = [row | {"group_id": i // 4, "pair_id": i // 2} for i, row in enumerate(our_rows(tmp_path / "b"))]
    result = prepared(lines(tmp_path / "b" / "items.jsonl", rows), out)
    assert set(result.pairs) == set("012345") and result.prepared.groups == {("mine", "c"): 3}


def test_pairs_without_an_id_are_those_of_a_voice(tmp_path: Path, out: Path) -> None:
    rows = [
        {k: v for k, v in row.items() if k not in ("pair_id", "task")} for row in our_rows(tmp_path / "b")
    ]
    path = lines(tmp_path / "b" / "items.jsonl", rows)
    with pytest.raises(UserError, match=r"items\.jsonl:1: no task; give every line one, or say --task"):
        prepared(path, out)
    assert set(prepared(path, out, task="mine").pairs) == {f"g{n}/{v}/c" for n in (1, 2, 3) for v in "ab"}


def test_the_studys_groups_are_our_pairs(tmp_path: Path, out: Path) -> None:
    rows = [
        {"id": f"{i}", "group_id": row["pair_id"], "pair_id": row["group_id"], "phenomenon": row["phenomenon"],
         "correct": int(row["correct"]), "audio": row["audio"]}
        for i, row in enumerate(our_rows(tmp_path / "sblimp"))
    ]  # fmt: skip
    path = lines(tmp_path / "sblimp" / "items.jsonl", rows)
    assert layout_of(path) == "slm"
    result = prepared(path, out)
    assert result.prepared.groups == {("sblimp", ""): 3} and result.prepared.pairs == {("sblimp", ""): 6}
    assert result.labels["0"].group_id == "g1" and result.labels["0"].pair_id == "g1/a"
    with pytest.raises(UserError, match="as in the study's own evaluation; say --layout slm"):
        prepared(path, out, layout="jsonl")
    ours = lines(tmp_path / "b" / "items.jsonl", our_rows(tmp_path / "b"))
    with pytest.raises(UserError, match="say --layout jsonl"):
        prepared(ours, out, layout="slm")
    both = [row | {"pair_id": row["voice"]} for row in our_rows(tmp_path / "b")]
    with pytest.raises(UserError, match="a group_id has several pair_id, and a pair_id several group_id"):
        prepared(lines(tmp_path / "b" / "both.jsonl", both), out)


def test_lines_that_are_no_members(tmp_path: Path, out: Path) -> None:
    rows: list[Any] = our_rows(tmp_path / "b")
    rows[0]["correct"] = None
    rows[2]["correct"] = "true"
    rows[4]["audio"] = 7
    del rows[6]["group_id"], rows[6]["pair_id"]
    rows[8]["voice"] = ["a"]
    rows[9]["extra"] = "no object"
    rows.append("{")
    short(tmp_path / "outside.wav")
    rows[10]["audio"] = "../outside.wav"
    path = lines(tmp_path / "b" / "items.jsonl", rows)
    with pytest.raises(UserError, match=r"8 of 8 pairs cannot be used: .*wanted true or false"):
        prepared(path, out, incomplete=True)
    reasons = {skip.id: skip.reason for skip in skips_of(out / "manifest.skips.jsonl")}
    assert reasons == {
        "mine/g1/a": "bad label", "mine/g1/b": "bad label", "mine/g2/a": "no audio", "mine/g2/b": "without twin",
        "items.jsonl:7": "bad entry", "mine/g3/a": "bad entry", "items.jsonl:13": "bad entry", "mine/g3/b": "outside",
    }  # fmt: skip


def test_members_that_say_different_things_of_their_pair(tmp_path: Path, out: Path) -> None:
    rows = our_rows(tmp_path / "b")
    rows[1]["phenomenon"] = "another"
    _, skips, left = refused(lines(tmp_path / "b" / "items.jsonl", rows), out)
    assert [skip.reason for skip in skips] == ["labels disagree"] and len(left.pairs) == 5
    assert "its members have phenomenon 'p' and 'another'" in skips[0].detail


# --- the door --------------------------------------------------------------------------------------------------


def test_what_looks_like_nothing_or_like_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        open_benchmark(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="looks like no benchmark; say --layout, one of zerospeech, "):
        open_benchmark(tmp_path / "empty")
    with pytest.raises(UserError, match=r"no such layout \(did you mean 'storycloze'\?\)"):
        open_benchmark(tmp_path / "empty", "storyclose")
    short(tmp_path / "two" / "0_x_correct.wav")
    short(tmp_path / "two" / "voice" / "0_x_correct.wav")
    with pytest.raises(UserError, match="could be storycloze or slamkit; say --layout"):
        open_benchmark(tmp_path / "two")


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"jsonl", "slm"}))
def test_an_empty_folder_is_a_sentence_in_every_layout(tmp_path: Path, out: Path, layout: str) -> None:
    (tmp_path / "tSC").mkdir()
    with pytest.raises(UserError, match=r"wanted|no \.parquet files|no lexical or syntactic folder"):
        prepared(tmp_path / "tSC", out, layout=layout)


def test_official_counts_agree_with_each_other() -> None:
    sentences = OFFICIAL["zerospeech", "sblimp", "dev"]
    assert sentences.groups is not None and sentences.pairs == sentences.groups * (sentences.voices or 0)
    assert (
        2 * (sentences.pairs or 0) == 50_400
        and 2 * (OFFICIAL["zerospeech", "sblimp", "test"].pairs or 0) == 126_000
    )
    assert not list(differences("zerospeech", "sblimp", "dev", sentences))
    assert not list(differences("jsonl", "sblimp", "dev", Count(1, 1, 1)))
    assert list(differences("storycloze", "sstorycloze", "", Count(1872, 1872, 1))) == [
        "sstorycloze: 1,872 items, officially 1,871 (1 more)"
    ]


def test_a_second_time_gives_the_same_bytes(tmp_path: Path, out: Path) -> None:
    root = zerospeech(tmp_path / "sLM21-dataset")
    first = prepared(root, out).prepared.manifest.read_bytes()
    assert prepared(root, out).prepared.manifest.read_bytes() == first


def test_memory_is_flat_in_the_number_of_items(tmp_path: Path, out: Path) -> None:
    """Three hundred items more cost less than 100 bytes a recording at the peak."""
    short(tmp_path / "b" / "a.wav")
    peaks = []
    for count in (100, 400):
        rows = (
            {
                "id": f"{i}-{c}",
                "task": "t",
                "group_id": f"g{i}",
                "pair_id": f"g{i}/v",
                "correct": c,
                "audio": "a.wav",
            }
            for i in range(count)
            for c in (0, 1)
        )
        path = lines(tmp_path / "b" / f"{count}.jsonl", rows)
        tracemalloc.start()
        assert prepare_benchmark(open_benchmark(path, "jsonl"), out).pairs.total() == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert all(later - earlier < 300 * 2 * 100 for earlier, later in pairwise(peaks))


def test_the_column_of_a_row_is_told(tmp_path: Path) -> None:
    from speechscale.errors import SampleFault
    from speechscale.speech.audio.parquet_audio import ParquetAudioReader

    path = stories(tmp_path / "a.parquet", 2)
    with Recording(ParquetAudioReader(path, "a", "negative_audio").read(1), "a") as recording:
        assert recording.num_samples / recording.sample_rate == 0.51
    with pytest.raises(SampleFault, match="the column 'audio' holds no audio bytes"):
        ParquetAudioReader(path, "a", "audio")
