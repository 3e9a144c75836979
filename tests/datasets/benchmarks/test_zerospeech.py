"""ZeroSpeech 2021: recordings and gold files in miniature copies with the traps of the real ones."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import prepare, prepare_refused, short_wav
from hypothesis import given, settings
from hypothesis import strategies as st

from speechscale.datasets.benchmarks import detect_benchmark_layout
from speechscale.errors import UserError
from speechscale.speech.waveforms import load_waveforms

LEXICAL = ["filename", "id", "voice", "frequency", "word", "phones", "length", "correct"]
MEMBER_COLUMNS = ("filename", "correct", "transcription")  # the others have the same cells in both members
SYNTACTIC = ["filename", "id", "voice", "type", "subtype", "transcription", "correct"]


def write_gold(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def lexical_rows(name: str = "dev", spelled: bool = False) -> list[dict[str, Any]]:
    """Two voices of four words with opaque file names; pandas would read two of the words as missing values."""
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
    """Ids start again in each subtype, and ungrammatical rows have another order than grammatical ones."""
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


def write_zerospeech(root: Path, sets: tuple[str, ...] = ("dev",)) -> Path:
    for name in sets:
        for kind, columns, rows in (
            ("lexical", LEXICAL, lexical_rows(name)),
            ("syntactic", SYNTACTIC, syntactic_rows(name)),
        ):
            write_gold(root / kind / name / "gold.csv", columns, rows)
            for row in rows:
                short_wav(root / kind / name / f"{row['filename']}.wav")
    return root


def test_words_and_nonwords_are_joined_by_id_and_voice(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset")
    assert (
        detect_benchmark_layout(root)
        == detect_benchmark_layout(root / "lexical")
        == detect_benchmark_layout(root / "lexical" / "dev")
        == "zerospeech"
    )
    result = prepare(root / "lexical", out)
    assert len(result.pairs) == 8 and result.summary.groups == {("swuggy", "dev"): 4}
    by_stem = {row["filename"]: row for row in lexical_rows()}
    for name, (correct, wrong) in result.pairs.items():
        right, other = (by_stem[utterance.id.rpartition("/")[2]] for utterance in (correct, wrong))
        assert (right["id"], right["voice"]) == (other["id"], other["voice"])
        assert (right["correct"], other["correct"]) == (1, 0)
        label = result.labels[correct.id]
        assert (label.task, label.group_id) == ("swuggy", f"dev/{right['id']}")
        assert name == f"{label.group_id}/{right['voice']}"
        # The non-word has the frequency of its word, so that frequency bands are bands of pairs.
        assert label.frequency == result.labels[wrong.id].frequency == right["frequency"]
        assert (correct.speaker, correct.split, label.condition) == (right["voice"], "dev", "dev")


def test_phones_are_the_text_where_no_nonword_is_spelled(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset") / "lexical"
    texts = {(u.transcript, w.transcript) for u, w in prepare(root, out).pairs.values()}
    assert ("N AE1 N", "N AE1 N K") in texts and len(texts) == 4


def test_words_that_look_like_missing_values_are_kept(tmp_path: Path, out: Path) -> None:
    rows = lexical_rows(spelled=True)
    root = tmp_path / "sLM21-dataset"
    write_gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, rows)
    for row in rows:
        short_wav(root / "lexical" / "dev" / f"{row['filename']}.wav")
    texts = {(u.transcript, w.transcript) for u, w in prepare(root, out).pairs.values()}
    assert texts == {("nan", "nank"), ("null", "nullk"), ("brick", "brickk"), ("zyzzyva", "zyzzyvak")}
    only = [row | {"word": row["word"] if row["word"] != "nullk" else "NaN"} for row in rows]
    write_gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, only)
    texts = {(u.transcript, w.transcript) for u, w in prepare(root, out).pairs.values()}
    assert ("null", "N AH1 L K") in texts and ("nan", "nank") in texts


def test_sentences_are_joined_by_type_subtype_id_and_voice_and_not_by_rows(tmp_path: Path, out: Path) -> None:
    result = prepare(write_zerospeech(tmp_path / "sLM21-dataset") / "syntactic", out)
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


def test_notes_on_differences_from_the_release(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset", ("dev", "test"))
    (root / "syntactic" / "test" / "gold.csv").unlink()
    short_wav(root / "lexical" / "dev" / "unlisted.wav")
    result = prepare(root, out)
    assert result.summary.pairs == {("swuggy", "dev"): 8, ("swuggy", "test"): 8, ("sblimp", "dev"): 12}
    assert result.summary.notes == [
        "syntactic/test left out: no gold.csv there",
        "lexical/dev: 17 wavs but 16 rows of gold.csv; only these are read",
        "swuggy dev: 4 items, officially 5,000 (4,996 fewer)",
        "swuggy test: 4 items, officially 20,000 (19,996 fewer)",
        "sblimp dev: 6 items, officially 6,300 (6,294 fewer)",
        "sblimp dev: 12 pairs of recordings, officially 25,200 (25,188 fewer)",
        "sblimp dev: 2 voices, officially 4 (2 fewer)",
    ]
    waveforms = load_waveforms(result.utterances[:4], root)
    assert all(isinstance(waveform, np.ndarray) and len(waveform) for waveform in waveforms)


def test_gold_files_of_the_index(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset")
    (root / "gold").mkdir()
    item = {"item_type": "file_item", "file_type": "csv", "relative_path": True, "file": "gold/words.csv"}
    (root / "lexical" / "dev" / "gold.csv").rename(root / "gold" / "words.csv")
    index = {"subsets": {"lexical_dev": {"items": {"gold": item}}, "syntactic_dev": {"items": {}}}}
    (root / "index.json").write_text(json.dumps(index))
    assert prepare(root, out).summary.pairs == {("swuggy", "dev"): 8, ("sblimp", "dev"): 12}
    item["file"] = "../elsewhere.csv"
    (root / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: .*is outside"):
        prepare(root, out)
    (root / "index.json").write_text("[]")
    with pytest.raises(UserError, match="not the index of a dataset"):
        prepare(root, out)


def test_an_archive_without_gold_is_refused_with_advice(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "zerospeech2021-dataset")
    for path in root.rglob("gold.csv"):
        path.unlink()
    with pytest.raises(UserError, match=r"no such file, and without it nobody knows.*zrc datasets:pull"):
        prepare(root, out)


@pytest.mark.parametrize("column", ["voice", "correct", "phones"])
def test_a_gold_file_without_a_column(tmp_path: Path, out: Path, column: str) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset")
    write_gold(
        root / "lexical" / "dev" / "gold.csv", [name for name in LEXICAL if name != column], lexical_rows()
    )
    with pytest.raises(UserError, match=f"no column {column}; found .*wanted filename, id"):
        prepare(root, out)


def write_sentences(tmp_path: Path, rows: list[dict[str, Any]], name: str = "sLM21-dataset") -> Path:
    """A dataset of sentences with these rows of gold, and the wavs of `syntactic_rows`."""
    root = tmp_path / name
    write_gold(root / "syntactic" / "dev" / "gold.csv", SYNTACTIC, rows)
    for row in syntactic_rows():
        short_wav(root / "syntactic" / "dev" / f"{row['filename']}.wav")
    return root


def test_an_unpaired_sentence_is_named_and_may_be_left_out(tmp_path: Path, out: Path) -> None:
    rows = syntactic_rows()
    removed = next(row for row in rows if row["subtype"] == "only" and row["id"] == 2 and not row["correct"])
    own_cells = {key: removed[key] for key in MEMBER_COLUMNS}
    other_member = next(row for row in rows if row is not removed and row | own_cells == removed)
    root = write_sentences(tmp_path, [row for row in rows if row is not removed])
    message, skips, remaining = prepare_refused(root, out)
    name = f"sblimp/dev/npi/only/2/{removed['voice']}"
    assert f"1 of 12 pairs cannot be used: 1 unpaired ({name}: only its correct member" in message
    assert other_member["filename"] in message and "--incomplete" in message
    assert skips[0].id == name and len(remaining.pairs) == 11


def test_every_fault_of_a_gold_file_is_named_and_counted(tmp_path: Path, out: Path) -> None:
    rows = [dict(row) for row in syntactic_rows()]
    by = {(r["subtype"], r["id"], r["voice"], r["correct"]): r for r in rows}
    by["only", 1, "A", 0]["correct"] = 2
    by["only", 1, "B", 1]["correct"] = "yes"
    by["only", 2, "A", 0]["filename"] = by["only", 2, "B", 0][
        "filename"
    ]  # one file in two pairs: both are lost
    by["anaphor", 1, "A", 1]["filename"] = "../../../outside"
    third = {**by["anaphor", 2, "A", 0], "filename": by["only", 2, "A", 1]["filename"]}
    root = write_sentences(tmp_path, [row for row in rows if row is not by["only", 2, "A", 1]])
    (root / "syntactic" / "dev" / f"{by['anaphor', 1, 'B', 0]['filename']}.wav").unlink()
    (root / "syntactic" / "dev" / f"{by['determiner', 1, 'A', 0]['filename']}.wav").write_bytes(b"")
    short_wav(tmp_path / "outside.wav")
    with (root / "syntactic" / "dev" / "gold.csv").open("a") as stream:
        csv.DictWriter(stream, SYNTACTIC).writerow(third)
        stream.write("too,few,cells\n")
    message, skips, remaining = prepare_refused(root, out)
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
    assert "9 of 13 pairs cannot be used" in message and "2 bad label (syntactic/dev/gold.csv:" in message
    filename = by["only", 1, "A", 0]["filename"]
    assert f"correct is '2' for {filename}, wanted 0 or 1" in message and "outside" in message
    details = {skip.id: skip.detail for skip in skips}
    assert "wanted one correct and one wrong, found correct" in details["sblimp/dev/agreement/anaphor/2/A"]
    assert len(remaining.pairs) == 4 and "9 left out: 2" in str(remaining.summary)


def test_no_usable_pair_is_an_error_with_incomplete_too(tmp_path: Path, out: Path) -> None:
    rows = [row for row in syntactic_rows() if row["correct"]]
    with pytest.raises(UserError, match="12 of 12 pairs cannot be used: 12 unpaired"):
        prepare(write_sentences(tmp_path, rows), out, incomplete=True)
    with pytest.raises(UserError, match="no recordings here"):
        prepare(write_sentences(tmp_path, [], "empty"), out)


def test_invalid_frequencies(tmp_path: Path, out: Path) -> None:
    root, rows = write_zerospeech(tmp_path / "sLM21-dataset"), lexical_rows()
    rows[0]["frequency"], rows[1]["frequency"] = "often", "-3"
    write_gold(root / "lexical" / "dev" / "gold.csv", LEXICAL, rows)
    _, skips, _ = prepare_refused(root / "lexical", out)
    assert {skip.reason for skip in skips} == {"bad entry"} and "wanted a count" in skips[0].detail


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentences(tmp_path_factory.mktemp("sentences"), syntactic_rows())


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(24)))
def test_the_order_of_rows_has_no_effect(sentences: Path, order: list[int]) -> None:
    rows = syntactic_rows()
    write_gold(sentences / "syntactic" / "dev" / "gold.csv", SYNTACTIC, [rows[index] for index in order])
    pairs = prepare(sentences, sentences.parent / "out").pairs
    wanted = {
        f"dev/{row['type']}/{row['subtype']}/{row['id']}/{row['voice']}": {
            other["filename"] for other in rows if row | {k: other[k] for k in MEMBER_COLUMNS} == other
        }
        for row in rows
    }
    assert {k: {u.id.rpartition("/")[2] for u in pair} for k, pair in pairs.items()} == wanted


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path, out: Path) -> None:
    root = write_zerospeech(tmp_path / "sLM21-dataset")
    first = prepare(root, out).summary.manifest.read_bytes()
    assert prepare(root, out).summary.manifest.read_bytes() == first
