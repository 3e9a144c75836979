"""Scores and losses of models from several sources: a run, the study's release, slamkit, and a causal LM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from run_records import run_record
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM
from unit_models import ENCODING, EOS, export_release, units_of, write_labelled_shards

from speechscale.errors import UserError
from speechscale.evals.conventions import PRESETS, convention_from_preset
from speechscale.jobs.evaluate import evaluate, score_run
from speechscale.jobs.evaluate_loss import evaluate_corpus_losses
from speechscale.jobs.train_run import TrainingTask, train_and_score_run
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records import revisions
from speechscale.records.runs import RECORD, RunRecord, read_record, write_record
from speechscale.records.scores import SpecialTokens, read_scores_file
from speechscale.records.shards import Sample, write_shard
from speechscale.records.training_provenance import TrainingProvenance
from speechscale.train.checkpoint import MODEL, save_model
from speechscale.train.spec import RunSpec

LONE = {"task": "lexical", "group_id": "9", "pair_id": "9", "correct": True}
BIN = Path(sys.executable).parent / "speechscale"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_shards(tmp_path_factory.mktemp("shards"))


def mean_nll(model: torch.nn.Module, tokens: list[int]) -> float:
    """By the library's own forward pass, of all tokens but the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:])).item()


def test_release_is_scored_with_a_warning_about_its_codebook(shards: Path, tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    found = evaluate(str(tmp_path / "slm"), [shards], tmp_path / "out", PRESETS["official"])
    assert found.table.height == 23 and len(found.file.not_scored) == 1
    assert "does not record the codebook of its units" in found.file.warnings[0]
    assert found.file.scores[0].items == 12
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["convention"]["preset"] == "official"
    assert written["not_scored"] == list(found.file.not_scored)
    assert written["tokens"] == {"before_first": EOS, "closing": EOS, "unit_0": 0}
    assert read_scores_file(tmp_path / "out" / "scores.json") == found.file
    file = evaluate(str(tmp_path / "slm/model.safetensors"), [shards], tmp_path / "out2", PRESETS["official"])
    assert file.table.equals(found.table)


def test_model_with_a_unit_offset_scores_as_in_transformers(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(**shape, intermediate_size=64, max_position_embeddings=64, initializer_range=0.3)
    config.offset, config.bos_token_id, config.eos_token_id = 20, 3, 4
    model = GPTNeoXForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "twist")
    convention = convention_from_preset("official", terminal=True)
    found = evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", convention, precision="float32")
    assert found.file.tokens == SpecialTokens(before_first=3, closing=4, unit_0=20)
    units = units_of(shards)
    for row in found.table.head(6).iter_rows(named=True):
        tokens = [3, *(20 + u for u in units[row["name_wrong"]]), 4]
        mean = (row["nll_wrong"] + row["nll_end_wrong"]) / (row["units_wrong"] + 1)
        assert mean == pytest.approx(mean_nll(model, tokens), rel=1e-4)
    config.bos_token_id = None
    config.save_pretrained(tmp_path / "twist")
    alone = evaluate(str(tmp_path / "twist"), [shards], tmp_path / "eos", convention, precision="float32")
    assert alone.file.tokens == SpecialTokens(before_first=4, closing=4, unit_0=20)
    config.bos_token_id = 40
    config.save_pretrained(tmp_path / "twist")
    for failing in (
        lambda: evaluate(str(tmp_path / "twist"), [shards], tmp_path / "o", convention),
        lambda: evaluate_corpus_losses(str(tmp_path / "twist"), shards),
    ):
        with pytest.raises(UserError, match=r"^token 40 is to open or close every sequence.* ends at 39"):
            failing()
    config.bos_token_id = 3
    del config.offset
    config.save_pretrained(tmp_path / "twist")
    with pytest.raises(UserError, match=r"names no offset.*--unit-offset"):
        evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", convention)
    again = evaluate(
        str(tmp_path / "twist"), [shards], tmp_path / "o", convention, unit_offset=20, precision="float32"
    )
    assert again.table.equals(found.table)
    with pytest.raises(UserError, match=r"^t/\d+/\w: the \w+ member has units .* vocabulary ends at 39"):
        evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", convention, unit_offset=36)


def test_units_of_slamkit_follow_its_special_tokens(shards: Path, tmp_path: Path) -> None:
    """As slamkit saves it: the base model's configuration is nested, and its weights are under `lm.`."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 12,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "ffn_dim": 32,
        "num_attention_heads": 2,
    }
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = OPTConfig(**shape, **special, max_position_embeddings=64, word_embed_proj_dim=16, init_std=0.3)
    model = OPTForCausalLM(config).eval()
    folder = tmp_path / "slam"
    folder.mkdir()
    config_json = {"model_type": "speech_language_model", "vocab_size": 12, "base_config": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(config_json))
    weights = {
        f"lm.{name}": value.clone() for name, value in model.state_dict().items() if "lm_head" not in name
    }
    save_file(weights, folder / "model.safetensors")
    found = evaluate(str(folder), [shards], tmp_path / "out", PRESETS["slamkit"], precision="float32")
    assert found.file.tokens == SpecialTokens(before_first=1, closing=1, unit_0=2)
    units = units_of(shards)
    for row in found.table.head(4).iter_rows(named=True):
        tokens = [1, *(2 + u for u in units[row["name_correct"]]), 1]
        mean = (row["nll_correct"] + row["nll_end_correct"]) / (row["units_correct"] + 1)
        assert mean == pytest.approx(mean_nll(model, tokens), rel=1e-4)
    save_file(dict(list(weights.items())[:-1]), folder / "model.safetensors")
    with pytest.raises(UserError, match="1 weights are missing or of another size"):
        evaluate(str(folder), [shards], tmp_path / "out", PRESETS["slamkit"])


def test_hub_id_needs_a_revision(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="owner/name@revision is wanted"):
        evaluate("owner/name", [shards], tmp_path / "out", PRESETS["official"])


def task_shards(folder: Path, *tasks: str, items: int = 4) -> Path:
    rng = np.random.default_rng(1)
    samples = []
    for task in tasks:
        for item in range(items):
            for correct in (True, False):
                label = {"task": task, "group_id": str(item), "pair_id": str(item), "correct": correct}
                units = np.append(rng.integers(0, 10, 8), EOS).astype(np.int16)
                samples.append(Sample(f"{task}-{item}-{correct}", units, 2.0, {"extra": label}))
    write_shard(folder / "s0", samples, [], ENCODING)
    return folder


def scored_run(folder: Path) -> RunRecord:
    """A run with a record that has the score of one task."""
    torch.manual_seed(0)
    shape = ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
    folder.mkdir()
    old = {"lexical": {"accuracy": 0.6, "low": 0.5, "high": 0.7, "items": 9}}
    record = run_record(scores=old)
    save_model(Transformer(shape).eval(), folder / MODEL, TrainingProvenance(kmeans="k"), record)
    write_record(record, folder / RECORD)
    return record


def test_scores_of_several_benchmarks_accumulate(tmp_path: Path) -> None:
    """Scored together or one after another, the scores are equal; a task scored again replaces its former scores."""
    made = {task: task_shards(tmp_path / task, task) for task in ("sblimp", "sstorycloze", "tstorycloze")}
    one, two = tmp_path / "one", tmp_path / "two"
    scored_run(one)
    scored_run(two)
    words = [word for folder in made.values() for word in ("--benchmarks", folder)]
    done = subprocess.run([BIN, "eval", "run", one, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for folder in made.values():
        found = evaluate(str(two), [folder], two, PRESETS["official"])
    assert found.existing_tasks == ("sblimp", "sstorycloze") and {
        each.task for each in found.file.scores
    } == set(made)
    files = [json.loads((folder / "scores.json").read_text()) for folder in (one, two)]
    assert files[0]["scores"] == files[1]["scores"] and files[0]["benchmarks"] == files[1]["benchmarks"]
    assert pl.read_parquet(one / "scores.parquet").equals(pl.read_parquet(two / "scores.parquet"))
    scores = read_record(one / RECORD).scores
    assert set(scores) == {"lexical", *made} and scores == read_record(two / RECORD).scores
    assert {"sblimp", "sstorycloze", "tstorycloze"} <= read_record(one / RECORD).row().keys()
    fewer = task_shards(tmp_path / "fewer", "sblimp", items=2)
    again = evaluate(str(one), [fewer], one, PRESETS["official"])
    assert again.table.group_by("task").len().sort("task")["len"].to_list() == [2, 4, 4]
    assert {name: score.items for name, score in read_record(one / RECORD).scores.items()} == {
        "lexical": 9,
        "sblimp": 2,
        "sstorycloze": 4,
        "tstorycloze": 4,
    }


def test_scores_of_two_conventions_or_models_are_not_mixed(tmp_path: Path) -> None:
    made = [task_shards(tmp_path / task, task) for task in ("sblimp", "sstorycloze")]
    for name in ("one", "two"):
        export_release(tmp_path / name)
    out = tmp_path / "out"
    evaluate(str(tmp_path / "one"), made[:1], out, PRESETS["official"])
    before = (out / "scores.json").read_bytes()
    with pytest.raises(
        UserError, match=r"holds scores of sblimp with convention preset official.*zerospeech"
    ):
        evaluate(str(tmp_path / "one"), made[1:], out, PRESETS["zerospeech"])
    with pytest.raises(UserError, match=r"holds scores of sblimp with model \S+one, .*take another --out"):
        evaluate(str(tmp_path / "two"), made[1:], out, PRESETS["official"])
    assert (out / "scores.json").read_bytes() == before
    found = evaluate(str(tmp_path / "two"), made, out, PRESETS["zerospeech"])  # nothing stays, nothing mixes
    assert found.existing_tasks == () and found.table["task"].n_unique() == 2
    (out / "scores.json").unlink()
    with pytest.raises(UserError, match="does not say by which convention sblimp were scored"):
        evaluate(str(tmp_path / "two"), made[1:], out, PRESETS["zerospeech"])


def study_run(root: Path, benchmarks: Path) -> TrainingTask:
    """A run as a study trains and scores it."""
    for part in ("train", "test"):
        units = np.append(np.random.default_rng(len(part)).integers(0, 10, 200), EOS).astype(np.int16)
        write_shard(root / part / "s0", [Sample(part, units, 8.0, {})], [], ENCODING)
    spec = RunSpec(run="r", layers=1, dim=16, heads=1, context=32, batch=4, tokens=512)
    return TrainingTask(spec, root / "runs" / "r", (root / "train",), root / "test", benchmarks)


def test_run_of_a_study_has_a_scores_file_with_its_convention(tmp_path: Path) -> None:
    """The same files as `eval run` writes; `eval run` adds tasks and refuses another convention, also after a move."""
    task = study_run(tmp_path, task_shards(tmp_path / "a", "lexical", "minimal_pairs"))
    record = train_and_score_run(task)
    assert record == read_record(task.folder / RECORD) and set(record.scores) == {"lexical", "minimal_pairs"}
    file = read_scores_file(task.folder / "scores.json")
    assert file.convention == PRESETS["official"] and file.model == "." and file.pairs == 8
    assert {each.task: each.score for each in file.scores} == record.scores
    again = evaluate(str(task.folder), [tmp_path / "a"], tmp_path / "out", PRESETS["official"])
    assert again.file == file.model_copy(update={"model": str(task.folder)})
    assert again.table.equals(pl.read_parquet(task.folder / "scores.parquet"))
    moved = task.folder.rename(tmp_path / "moved")
    other = task_shards(tmp_path / "b", "sblimp")
    with pytest.raises(
        UserError, match=r"holds scores of lexical, minimal_pairs with convention preset official"
    ):
        evaluate(str(moved), [other], moved, PRESETS["slamkit"])
    found = evaluate(str(moved), [other], moved, PRESETS["official"])
    assert found.existing_tasks == ("lexical", "minimal_pairs") and found.table.height == 12
    after = read_record(moved / RECORD)
    assert after.scores == record.scores | {"sblimp": after.scores["sblimp"]}


def test_note_about_unscored_pairs_of_a_study_remains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    record = scored_run(run)
    folder = task_shards(tmp_path / "a", "lexical")
    samples = [Sample("lone", np.array([1, EOS], dtype=np.int16), 1.0, {"extra": LONE})]
    write_shard(folder / "s1", samples, [], ENCODING)
    write_record(score_run(record, run, folder), run / RECORD)
    evaluate(str(run), [task_shards(tmp_path / "b", "sblimp")], run, PRESETS["official"])
    after = read_record(run / RECORD)
    assert set(after.scores) == {"lexical", "sblimp"}
    assert after.note == "1 pairs were not scored, the first lexical/9"


def test_note_that_is_not_about_scores_remains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    note = "imported from slm; 3 pairs were not scored, the first old/1; loss of another tokenizer"
    write_record(scored_run(run).model_copy(update={"note": note}), run / RECORD)
    folder = task_shards(tmp_path / "a", "lexical")
    samples = [Sample("lone", np.array([1, EOS], dtype=np.int16), 1.0, {"extra": LONE})]
    write_shard(folder / "s1", samples, [], ENCODING)
    others = "imported from slm; loss of another tokenizer"
    for _ in range(2):
        evaluate(str(run), [folder], run, PRESETS["official"])
        expected = f"{others}; 1 pairs were not scored, the first lexical/9"
        assert read_record(run / RECORD).note == expected
    evaluate(str(run), [task_shards(tmp_path / "b", "lexical")], run, PRESETS["official"])
    assert read_record(run / RECORD).note == others


def test_record_gets_the_revision_of_scores_that_replace_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tmp_path / "run", task_shards(tmp_path / "a", "lexical", "sblimp")
    before = {"train": 2, "score": revisions.STAGE_REVISIONS["score"]}
    write_record(scored_run(run).model_copy(update={"revisions": before}), run / RECORD)
    evaluate(str(run), [folder], run, PRESETS["official"])
    assert read_record(run / RECORD).revisions == before
    revised = before["score"] + 1
    monkeypatch.setitem(revisions.STAGE_REVISIONS, "score", revised)
    evaluate(str(run), [folder], run, PRESETS["official"])
    assert read_record(run / RECORD).revisions == {"train": 2, "score": revised}


def test_record_keeps_the_revision_of_scores_that_are_not_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    before = {"train": 2, "score": revisions.STAGE_REVISIONS["score"]}
    write_record(scored_run(run).model_copy(update={"revisions": before}), run / RECORD)
    monkeypatch.setitem(revisions.STAGE_REVISIONS, "score", before["score"] + 1)
    evaluate(str(run), [task_shards(tmp_path / "a", "sblimp")], run, PRESETS["official"])
    after = read_record(run / RECORD)
    assert set(after.scores) == {"lexical", "sblimp"} and after.revisions == before


def prompted_shards(folder: Path, *stories: tuple[list[int], list[int], int | None]) -> Path:
    samples = []
    for number, (right, wrong, prompt) in enumerate(stories):
        for correct, units in ((True, right), (False, wrong)):
            label = {"task": "sstorycloze", "group_id": f"{number}", "pair_id": f"{number}", "prompt": prompt}
            row = {"extra": label | {"correct": correct}}
            samples.append(Sample(f"{number}-{correct}", np.array([*units, EOS], dtype=np.int16), 2.0, row))
    write_shard(folder / "s0", samples, [], ENCODING)
    return folder


def test_unlabelled_prompt_is_the_common_prefix(tmp_path: Path) -> None:
    """By hand: 3 common units; a member that is a prefix of the other keeps one unit; labels take precedence; 0 means
    no prompt; the unit repeated where prompt and ending were joined is dropped."""
    model = export_release(tmp_path / "slm")
    stories = [
        ([1, 2, 3, 4, 5], [1, 2, 3, 6], None),
        ([1, 2, 3], [1, 2, 3, 4], None),
        ([1, 2, 3, 4], [1, 2, 3, 5], 2),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0),
        ([5, 6, 6, 7], [5, 6, 8, 9], 2),
    ]
    made = prompted_shards(tmp_path / "shards", *stories)
    convention = convention_from_preset("official", given="prompt")
    found = evaluate(str(tmp_path / "slm"), [made], tmp_path / "out", convention, precision="float32")
    rows = found.table.sort("pair_id").to_dicts()
    assert [row["units_prompt"] for row in rows] == [3, 2, 2, 0, 2]
    for row, (right, _, _) in zip(rows, [*stories[:4], ([5, 6, 7], [], 2)], strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([[EOS, *right[:-1]]]))[0].log_softmax(-1)
        nats = -log_p[torch.arange(len(right)), torch.tensor(right)]
        ending = row["nll_correct"] - row["nll_prompt"]
        assert ending == pytest.approx(nats[row["units_prompt"] :].sum().item(), rel=1e-4)
    file = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert file["benchmarks"]["sstorycloze"]["prompts_not_labelled"] == 2
    assert any("no label gives the prompt of 2 pairs" in warning for warning in file["remarks"])


def test_prompts_are_required_before_scoring_endings(tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    made = prompted_shards(tmp_path / "shards", ([1, 2], [3, 2], None), ([1, 2], [1, 3], 0))
    with pytest.raises(UserError, match="no pair has a prompt"):
        evaluate(
            str(tmp_path / "slm"),
            [made],
            tmp_path / "out",
            convention_from_preset("official", given="prompt"),
        )
    assert not (tmp_path / "out").exists()


def test_comparison_uses_the_scores_before_they_are_replaced(shards: Path, tmp_path: Path) -> None:
    """Pairs without a score in one of the two are counted."""
    export_release(tmp_path / "slm")
    evaluate(str(tmp_path / "slm"), [shards], tmp_path / "out", PRESETS["official"])
    path = tmp_path / "out" / "scores.parquet"
    swapped = {"nll_correct": "nll_wrong", "nll_wrong": "nll_correct"}  # whatever was right is wrong
    first = pl.read_parquet(path)
    first.rename(swapped).select(first.columns).head(20).write_parquet(path)
    words = f"eval run slm --benchmarks {shards} -o out --compare out/scores.parquet"
    done = subprocess.run([BIN, *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "23 pairs here, 20 there, of which only 20 have a score in both." in done.stdout
    assert "p = 1.0000" not in done.stdout


def test_existing_submission_stops_the_command_before_scoring(shards: Path, tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    (tmp_path / "sub").mkdir()
    words = f"eval run slm --benchmarks {shards} -o out --submission sub"
    done = subprocess.run([BIN, *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "sub: exists already" in done.stderr
    assert not (tmp_path / "out").exists()


def test_eval_run_and_eval_loss_as_commands(shards: Path, tmp_path: Path) -> None:
    export_release(tmp_path / "slm")
    words = f"eval run slm --benchmarks {shards} -o one --compare one/scores.parquet --published --preset zerospeech"
    first = subprocess.run(
        [BIN, "eval", "run", "slm", "--benchmarks", shards, "-o", "one"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert first.returncode == 0, first.stderr
    assert "1 pairs were not scored, the first t/" in first.stdout.splitlines()[0]
    assert "convention official: mean NLL" in first.stdout
    second = subprocess.run([BIN, *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "p = 1.0000, 12 items" in second.stdout and "Cuervo & Marxer" in second.stdout
    loss = subprocess.run(
        [BIN, "eval", "loss", "slm", "--test", shards], cwd=tmp_path, capture_output=True, text=True
    )
    assert loss.returncode == 0 and loss.stdout.splitlines()[-1].startswith("all ")
    assert pl.read_parquet(tmp_path / "one" / "scores.parquet").height == 23
