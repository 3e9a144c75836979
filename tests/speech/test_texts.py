"""Text sources: texts of every format with their fields, and errors that name file and line."""

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


def read_fields(path: Path, field: str = "text") -> list[tuple[str | None, ...]]:
    return [(each.id, each.text, each.speaker, each.split) for each in read_texts(path, field)]


def test_lines_are_texts_and_blank_lines_are_empty(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne.\r\n\n  Zwei – drei.\t\nlast\u2028one".encode())
    assert [text for _, text, _, _ in read_fields(path)] == ["One.", "", "Zwei – drei.", "last\u2028one"]
    assert [each.location for each in read_texts(path)] == [f"{path}:{n}" for n in (1, 2, 3, 4)]


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
    assert read_fields(path, "story") == [
        ("b", "One.", "ann", "dev"),
        ("7", "Two.", None, None),
        *[(None, "", None, None)] * 3,
    ]


def test_parquet_of_the_hub_and_of_a_data_frame(tmp_path):
    hub = pa.table(
        {
            "audio": [{"bytes": b"RIFF", "path": None}] * 3,
            "text": ["One.", None, "Three."],
            "speaker": [1, 2, 1],
        }
    )
    pq.write_table(hub, tmp_path / "train-00000-of-00002.parquet", row_group_size=2)
    pl.DataFrame({"text": ["Four."], "id": ["four"]}).write_parquet(tmp_path / "train-00001-of-00002.parquet")
    assert read_fields(tmp_path) == [
        (None, "One.", "1", None),
        (None, "", "2", None),
        (None, "Three.", "1", None),
        ("four", "Four.", None, None),
    ]


def test_folder_is_read_in_order_of_names(tmp_path):
    for name in ("b.txt", "a.txt", "deep/c.TXT", "README.md", ".cache/hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"from {name}\n")
    assert [text for _, text, _, _ in read_fields(tmp_path)] == [
        "from a.txt",
        "from b.txt",
        "from deep/c.TXT",
    ]
    assert set(TextFiles(tmp_path).fingerprint()["files"]) == {"a.txt", "b.txt", "deep/c.TXT"}
    (tmp_path / "z.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"several kinds of text \(.*z\.jsonl, .*c\.TXT\)"):
        read_fields(tmp_path)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_json_lines_and_parquet_agree(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("same")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "a.parquet")
    wanted = [(None, text.strip(), None, None) for text in texts]
    assert read_fields(folder / "a.jsonl") == read_fields(folder / "a.parquet") == wanted


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
def test_malformed_source_is_refused_with_its_location(tmp_path, name, data, why):
    with pytest.raises(UserError, match=why):
        read_fields(write(tmp_path / name, data))


def test_missing_column_file_and_texts_are_refused(tmp_path):
    pl.DataFrame({"story": ["a"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"no field 'text'.*the fields are story"):
        read_fields(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no such file"):
        read_fields(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no texts in this folder"):
        read_fields(tmp_path / "empty")


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "large.jsonl"
    line = json.dumps({"text": "no " * 300}) + "\n"
    path.write_text(line * 20_000)  # 18 MB
    tracemalloc.start()
    assert sum(1 for _ in read_texts(path)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_stories_depend_on_the_seed_and_limits_are_kept(tmp_path):
    one, same, other = (list(StoryTexts("small", 5, seed).texts()) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == 5
    path = write(tmp_path / "a.txt", b"one\ntwo\nthree\n")
    assert [each.text for each in TextFiles(path, limit=2).texts()] == ["one", "two"]
