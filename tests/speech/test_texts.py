"""Texts from every source, with what the source says of them; and sentences for sources that are none."""

import json
import tracemalloc
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechscale.errors import UserError
from speechscale.speech.texts import StoryTexts, TextFiles, read_texts


def told(path: Path, field: str = "text") -> list[tuple[str | None, ...]]:
    return [(each.id, each.text, each.speaker, each.split) for each in read_texts(path, field)]


def test_lines_of_a_file_are_texts_and_blank_ones_are_empty(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne.\r\n\n  Zwei – drei.\t\nlast\u2028one".encode())
    assert [text for _, text, _, _ in told(path)] == ["One.", "", "Zwei – drei.", "last\u2028one"]
    assert [each.where for each in read_texts(path)] == [f"{path}:{n}" for n in (1, 2, 3, 4)]


def test_json_lines_keep_id_speaker_and_split(tmp_path):
    rows = [
        {"id": "b", "story": " One. ", "speaker": "ann", "split": "dev", "other": [1]},
        {"id": 7, "story": "Two.", "speaker": "", "split": None},
        {"story": None},
        {},
        {"story": 5},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert told(path, "story") == [
        ("b", "One.", "ann", "dev"),
        ("7", "Two.", None, None),
        *[(None, "", None, None)] * 3,
    ]


def test_parquet_as_the_hub_has_it_and_as_a_data_frame_is_saved(tmp_path):
    hub = pa.table(
        {
            "audio": [{"bytes": b"RIFF", "path": None}] * 3,
            "text": ["One.", None, "Three."],
            "speaker": [1, 2, 1],
        }
    )
    pq.write_table(hub, tmp_path / "train-00000-of-00002.parquet", row_group_size=2)
    pl.DataFrame({"text": ["Four."], "id": ["four"]}).write_parquet(tmp_path / "train-00001-of-00002.parquet")
    assert told(tmp_path) == [
        (None, "One.", "1", None),
        (None, "", "2", None),
        (None, "Three.", "1", None),
        ("four", "Four.", None, None),
    ]


def test_a_folder_is_read_in_order_of_its_names_without_what_is_no_text(tmp_path):
    for name in ("b.txt", "a.txt", "deep/c.TXT", "README.md", ".cache/hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"from {name}\n")
    assert [text for _, text, _, _ in told(tmp_path)] == ["from a.txt", "from b.txt", "from deep/c.TXT"]
    assert set(TextFiles(tmp_path).identity()["files"]) == {"a.txt", "b.txt", "deep/c.TXT"}
    (tmp_path / "z.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"several kinds of text \(.*z\.jsonl, .*c\.TXT\)"):
        told(tmp_path)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_json_lines_and_parquet_say_the_same(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("same")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "a.parquet")
    wanted = [(None, text.strip(), None, None) for text in texts]
    assert told(folder / "a.jsonl") == told(folder / "a.parquet") == wanted


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.txt", b"fine\n\xff\xfe broken\n", r"a\.txt:2: not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'["a"]\n', r"a\.jsonl:1: found .*; one JSON object a line is wanted"),
        (
            "a.jsonl",
            b'{"story": "a", "texts": 1}\n',
            r"no field 'text' \(did you mean 'texts'\?\).*--text-field",
        ),
        (
            "a.jsonl",
            b'{"text": "a", "id": [1]}\n',
            r"a\.jsonl:1: id: found \[1\]; a string or a whole number",
        ),
        ("a.jsonl", b'{"text": "a", "id": "\\ud800"}\n', r"a\.jsonl:1: id: found"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not JSON"),
        ("a.parquet", b"PAR1 not really", r"a\.parquet: cannot be read as Parquet"),
        ("a.parquet", b"", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_what_is_no_source_is_a_sentence(tmp_path, name, data, why):
    with pytest.raises(UserError, match=why):
        told(write(tmp_path / name, data))


def test_a_parquet_without_the_column_a_missing_file_and_an_empty_folder_are_sentences(tmp_path):
    pl.DataFrame({"story": ["a"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no field 'text'.*the fields are story"):
        told(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no such file"):
        told(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no texts in this folder"):
        told(tmp_path / "empty")


def test_a_large_file_costs_no_memory(tmp_path):
    path = tmp_path / "large.jsonl"
    line = json.dumps({"text": "no " * 300}) + "\n"
    path.write_text(line * 20_000)  # 18 MB
    tracemalloc.start()
    assert sum(1 for _ in read_texts(path)) == 20_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1e6


def test_stories_follow_their_seed_and_limits_are_kept(tmp_path):
    one, same, other = (list(StoryTexts("small", 5, seed).texts()) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 5
    path = write(tmp_path / "a.txt", b"one\ntwo\nthree\n")
    assert [each.text for each in TextFiles(path, limit=2).texts()] == ["one", "two"]
