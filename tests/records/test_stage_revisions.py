"""Reuse by revision: another revision is refused with both numbers, another commit is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tricks import hear_noise

from speechscale.errors import UserError
from speechscale.model.shape import ModelShape
from speechscale.records import code, revisions
from speechscale.records.code import CodeIdentity, code_identity
from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.records.revisions import Stage, require_revisions, revisions_of
from speechscale.records.runs import ImportedRecipe, RunRecord, read_record, write_record
from speechscale.records.seal import is_up_to_date, read_seal, seal_identity, sealed_folder
from speechscale.records.shards import (
    Sample,
    encoding_of,
    is_written,
    open_shard,
    shards_identity,
    write_shard,
)
from speechscale.units.encode import ShardTask, encode_shard, is_encoded, plan_shards
from speechscale.units.source import SpeechSource

OTHER = CodeIdentity(version="0.0.9", source="0" * 64, commit="f" * 40, clean=True)
PREPROCESSING = {"vocab_size": 12, "eos_token": 10, "pad_token": 11, "kmeans": {"sha256": "k"}}


def at_another_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_adopted", OTHER)


def at_another_revision(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(revisions.STAGE_REVISIONS, stage, revisions.STAGE_REVISIONS[stage] + 1)


def write_sealed(folder: Path) -> None:
    with sealed_folder(folder, schema="test/1", stage="speech", spec={"k": 1}, parents={}) as staging:
        (staging / "a.txt").write_text("content")


def sealed_is_up_to_date(folder: Path) -> bool:
    return is_up_to_date(folder, schema="test/1", stage="speech", spec={"k": 1}, parents={})


def preprocessing() -> dict[str, Any]:
    return {**PREPROCESSING, "revisions": revisions_of("encode")}


def write_units(folder: Path) -> None:
    write_shard(folder, [Sample("a", np.array([1, 10]), 1.0, {})], [], preprocessing())


def test_sealed_folder_of_another_commit_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sealed(tmp_path / "here")
    at_another_commit(monkeypatch)
    write_sealed(tmp_path / "there")
    assert sealed_is_up_to_date(tmp_path / "here")
    assert read_seal(tmp_path / "there").code == OTHER != read_seal(tmp_path / "here").code
    assert seal_identity(tmp_path / "there") == seal_identity(tmp_path / "here")


def test_sealed_folder_of_another_revision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sealed(tmp_path / "here")
    before = seal_identity(tmp_path / "here")
    at_another_revision("speech", monkeypatch)
    with pytest.raises(UserError) as error:
        sealed_is_up_to_date(tmp_path / "here")
    assert str(error.value) == (
        f"{tmp_path / 'here'}: was made by revision 1 of the stage 'speech'; this code has revision 2, whose results "
        f"differ. Remove it to make it again, or continue with the code that made it ({code_identity()}), or choose "
        "another output folder."
    )
    write_sealed(tmp_path / "again")
    assert seal_identity(tmp_path / "again") != before


def test_shard_of_another_commit_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_units(tmp_path / "here")
    at_another_commit(monkeypatch)
    write_units(tmp_path / "there")
    assert is_written(tmp_path / "here", preprocessing())
    here, there = (open_shard(tmp_path / name) for name in ("here", "there"))
    assert there.meta.code == OTHER != here.meta.code
    assert shards_identity([here]) == shards_identity([there]) and encoding_of(here) == encoding_of(there)


def test_shard_of_another_revision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_units(tmp_path / "here")
    at_another_revision("encode", monkeypatch)
    with pytest.raises(UserError, match=r"revision 1 of the stage 'encode'; this code has revision 2"):
        is_written(tmp_path / "here", preprocessing())
    write_units(tmp_path / "there")
    assert encoding_of(open_shard(tmp_path / "there")) != encoding_of(open_shard(tmp_path / "here"))


def test_shard_of_synthetic_speech_of_another_revision_is_refused(
    codebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Synthesis(engine="espeak-ng", voice="en-us", words_per_minute=260, seed=0)
    spoken = [Utterance(id="a", dataset="d", split="train", transcript="One two three.", synthesis=how)]
    write_manifest(spoken, tmp_path / "manifest.jsonl")

    def plan() -> ShardTask:
        manifest = tmp_path / "manifest.jsonl"
        source = SpeechSource(manifest, tmp_path, hear_noise)
        (task,) = plan_shards(source, codebook, tmp_path / "out", seconds=60)
        return task

    encode_shard(plan())
    assert is_encoded(plan())
    at_another_revision("speech", monkeypatch)
    with pytest.raises(UserError, match=r"speech_revision: found 1, wanted 2\. Choose another output folder"):
        is_encoded(plan())


def test_record_names_the_code_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after it is written again by other code, with other scores."""
    path, size = tmp_path / "record.json", ModelShape(layers=1, dim=8, heads=1, vocabulary=12, context=8)
    recipe = ImportedRecipe(run="r", series="s", tokens_seen=10)
    counts = {"unique_tokens": 10, "epoch_tokens": 10, "seconds": 1.0}
    write_record(RunRecord.of(size, recipe, status="done", **counts), path)
    own = code_identity()
    at_another_commit(monkeypatch)
    write_record(read_record(path).model_copy(update={"note": "scored again"}), path)
    record = read_record(path)
    assert (record.code, record.note, record.revisions) == (
        own,
        "scored again",
        revisions_of("train", "score"),
    )
    assert not {"code", "revisions"} & record.row().keys()
    imported = RunRecord.of(size, recipe, status="imported", **counts)
    assert (imported.code, imported.revisions) == (OTHER, revisions_of("score"))


def test_unknown_revision_is_refused() -> None:
    require_revisions(Path("x"), {"train": 1, "fit": 7}, {"train": 1})
    with pytest.raises(
        UserError, match=r"^x: was made by an unknown revision of the stage 'train'; .*another"
    ):
        require_revisions(Path("x"), {}, {"train": 1})
