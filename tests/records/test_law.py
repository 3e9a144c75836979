import json

import pytest
from law_files import small_law

from speechscale.errors import UserError
from speechscale.records.code import code_identity
from speechscale.records.law import LawFile, read_law, write_law
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import sha256_json


@pytest.fixture
def law() -> LawFile:
    return small_law()


def test_written_law_is_read_back(law, tmp_path):
    write_law(law, tmp_path / "law.json")
    found = read_law(tmp_path / "law.json")
    assert found == law.model_copy(update={"code": code_identity(), "revisions": revisions_of("fit")})
    assert found.series["s"].isoflop.params.a == 0.25


def test_failed_fits_are_null_and_omitted_fits_are_absent(law, tmp_path):
    write_law(law, tmp_path / "law.json")
    content = json.loads((tmp_path / "law.json").read_text())
    assert list(content) == ["schema", "code", "revisions", "options", "series", "efficiency", "sha256"]
    assert list(content["series"]["s"]) == ["rows", "checks", "single_epoch", "isoflop"]
    assert content["series"]["s"]["isoflop"]["interval95"] == {"a": [-1e-09, 0.5], "b": None}


def test_numbers_of_an_array_share_a_line(law, tmp_path):
    write_law(law, tmp_path / "law.json")
    assert "[ -1e-09, 0.5 ]" in (tmp_path / "law.json").read_text()


def test_law_that_was_read_is_written_to_the_same_bytes(law, tmp_path):
    write_law(law, tmp_path / "one.json")
    write_law(read_law(tmp_path / "one.json"), tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_law_edited_by_hand_is_refused(law, tmp_path):
    path = tmp_path / "law.json"
    write_law(law, path)
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(UserError, match="it was changed after the fit"):
        read_law(path)


def test_field_of_another_version_is_named(law, tmp_path):
    path = tmp_path / "law.json"
    write_law(law, path)
    content = json.loads(path.read_text())
    del content["sha256"]
    content["series"]["s"]["rows"]["surplus"] = 1
    path.write_text(json.dumps({**content, "sha256": sha256_json(content)}))
    with pytest.raises(
        UserError, match=r"law.json: series.s.rows.surplus: .*make it again with `speechscale fit`"
    ):
        read_law(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "schema is 'list'"),
        (
            json.dumps({"schema": "speechscale.law/9"}),
            "schema is 'speechscale.law/9', wanted 'speechscale.law/2'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "law.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_law(path)


def test_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be opened"):
        read_law(tmp_path / "law.json")
