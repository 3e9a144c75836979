import json

import pytest

from speechscale.errors import UserError
from speechscale.records.law import SCHEMA, read_law, write_law


@pytest.fixture
def law():
    return {"schema": SCHEMA, "series": {"s": {"draws": [0.25, -1e-9, 3.0]}}, "efficiency": {}}


def test_what_is_written_is_read(law, tmp_path):
    write_law(law, tmp_path / "law.json")
    found = read_law(tmp_path / "law.json")
    assert {key: found[key] for key in law} == law


def test_numbers_of_an_array_share_a_line(law, tmp_path):
    write_law(law, tmp_path / "law.json")
    assert "[ 0.25, -1e-09, 3.0 ]" in (tmp_path / "law.json").read_text()


def test_a_law_that_was_read_can_be_written_again(law, tmp_path):
    write_law(law, tmp_path / "one.json")
    write_law(read_law(tmp_path / "one.json"), tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_a_law_edited_by_hand_is_refused(law, tmp_path):
    path = tmp_path / "law.json"
    write_law(law, path)
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(UserError, match="it was changed after the fit"):
        read_law(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "schema is 'list'"),
        (
            json.dumps({"schema": "speechscale.law/9"}),
            "schema is 'speechscale.law/9', wanted 'speechscale.law/1'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "law.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_law(path)


def test_a_missing_law_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        read_law(tmp_path / "law.json")
