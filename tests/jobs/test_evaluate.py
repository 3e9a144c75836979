"""Models of every maker on the same labelled shards: ours, the release's, slamkit's, and one with a unit offset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, OPTConfig, OPTForCausalLM

from speechscale.errors import UserError
from speechscale.evals.conventions import PRESETS, convention
from speechscale.jobs.evaluate import evaluate, losses
from speechscale.model.interchange import export_model
from speechscale.model.shape import ModelShape
from speechscale.model.transformer import Transformer
from speechscale.records.runs import RECORD, RunRecord, read_record, write_record
from speechscale.records.shards import Sample, write_shard
from speechscale.train.checkpoint import MODEL, save_model

EOS = 10
MADE = {
    "vocab_size": 12,
    "eos_token": EOS,
    "pad_token": 11,
    "collapsed": True,
    "unit_extractor": {"name": "mel"},
    "kmeans": {"name": "book", "sha256": "k"},
}
BIN = Path(sys.executable).parent / "speechscale"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    samples = []
    for item in range(12):
        for voice in ("v", "w"):
            for correct in (True, False):
                label = {"task": "t", "group_id": str(item), "pair_id": f"{item}/{voice}", "voice": voice}
                units = np.append([item % 10, *rng.integers(0, 10, 8)], EOS).astype(np.int16)
                row = {"dataset": "ab"[item % 2], "extra": label | {"correct": correct}}
                samples.append(Sample(f"{item}-{voice}-{correct}", units, 2.0, row))
    rng.shuffle(samples)  # type: ignore[arg-type]
    write_shard(folder / "s0", samples[:20], [], MADE)
    write_shard(folder / "s1", samples[20:-1], [], MADE)  # one member is missing
    return folder


def release(folder: Path) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    export_model(model, folder, "official", {})
    return model.eval()


def mean_nll(model: torch.nn.Module, tokens: list[int]) -> float:
    """By the library's own forward pass, of all tokens but the first."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:])).item()


def units_of(shards: Path) -> dict[str, list[int]]:
    from speechscale.records.shards import open_shards

    return {
        row["id"]: units[:-1].tolist()
        for shard in open_shards(shards)
        for row, units in zip(shard.rows(), shard.samples(), strict=True)
    }


def test_the_release_is_scored_and_says_what_it_does_not_know(shards: Path, tmp_path: Path) -> None:
    release(tmp_path / "slm")
    found = evaluate(str(tmp_path / "slm"), [shards], tmp_path / "out", PRESETS["official"])
    assert found.table.height == 23 and len(found.missing) == 1
    assert found.remarks and "does not say which code book" in found.remarks[0]
    assert found.accuracies[0].score.items == 12
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["convention"]["preset"] == "official" and written["not_scored"] == found.missing
    assert written["tokens"] == {"before_first": EOS, "closing": EOS, "unit_0": 0}
    file = evaluate(str(tmp_path / "slm/model.safetensors"), [shards], tmp_path / "out2", PRESETS["official"])
    assert file.table.equals(found.table)


def test_a_model_with_a_unit_offset_is_scored_as_its_library_would(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(**shape, intermediate_size=64, max_position_embeddings=64, initializer_range=0.3)
    config.offset, config.bos_token_id, config.eos_token_id = 20, 3, 4
    model = GPTNeoXForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "twist")
    by = convention("official", terminal=True)
    found = evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", by, precision="float32")
    assert found.tokens == {"before_first": 3, "closing": 4, "unit_0": 20}
    units = units_of(shards)
    for row in found.table.head(6).iter_rows(named=True):
        tokens = [3, *(20 + u for u in units[row["name_wrong"]]), 4]
        mean = (row["nll_wrong"] + row["nll_end_wrong"]) / (row["units_wrong"] + 1)
        assert mean == pytest.approx(mean_nll(model, tokens), rel=1e-4)
    config.bos_token_id = None
    config.save_pretrained(tmp_path / "twist")
    alone = evaluate(str(tmp_path / "twist"), [shards], tmp_path / "eos", by, precision="float32")
    assert alone.tokens == {"before_first": 4, "closing": 4, "unit_0": 20}
    config.bos_token_id = 40
    config.save_pretrained(tmp_path / "twist")
    for failing in (
        lambda: evaluate(str(tmp_path / "twist"), [shards], tmp_path / "o", by),
        lambda: losses(str(tmp_path / "twist"), shards),
    ):
        with pytest.raises(UserError, match=r"^token 40 is to open or close every sequence.* ends at 39"):
            failing()
    config.bos_token_id = 3
    del config.offset
    config.save_pretrained(tmp_path / "twist")
    with pytest.raises(UserError, match=r"names no offset.*--unit-offset"):
        evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", by)
    again = evaluate(
        str(tmp_path / "twist"), [shards], tmp_path / "o", by, unit_offset=20, precision="float32"
    )
    assert again.table.equals(found.table)
    with pytest.raises(UserError, match=r"^t/\d+/\w: the \w+ member has units .* vocabulary ends at 39"):
        evaluate(str(tmp_path / "twist"), [shards], tmp_path / "out", by, unit_offset=36)


def test_a_slamkit_model_speaks_after_its_specials(shards: Path, tmp_path: Path) -> None:
    """The layout that slamkit saves: the base model's configuration inside, its weights under `lm.`."""
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
    told = {"model_type": "speech_language_model", "vocab_size": 12, "base_config": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(told))
    weights = {
        f"lm.{name}": value.clone() for name, value in model.state_dict().items() if "lm_head" not in name
    }
    save_file(weights, folder / "model.safetensors")
    found = evaluate(str(folder), [shards], tmp_path / "out", PRESETS["slamkit"], precision="float32")
    assert found.tokens == {"before_first": 1, "closing": 1, "unit_0": 2}
    units = units_of(shards)
    for row in found.table.head(4).iter_rows(named=True):
        tokens = [1, *(2 + u for u in units[row["name_correct"]]), 1]
        mean = (row["nll_correct"] + row["nll_end_correct"]) / (row["units_correct"] + 1)
        assert mean == pytest.approx(mean_nll(model, tokens), rel=1e-4)
    save_file(dict(list(weights.items())[:-1]), folder / "model.safetensors")
    with pytest.raises(UserError, match="1 weights are missing or of another size"):
        evaluate(str(folder), [shards], tmp_path / "out", PRESETS["slamkit"])


def test_a_hub_id_needs_a_revision(shards: Path, tmp_path: Path) -> None:
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
    write_shard(folder / "s0", samples, [], MADE)
    return folder


def a_run(folder: Path) -> RunRecord:
    """A run of ours with a record, as a study leaves it: scored by one task of its own."""
    torch.manual_seed(0)
    shape = ModelShape(layers=1, dim=16, heads=2, vocabulary=12, context=32, hidden_multiple=8)
    folder.mkdir()
    counts = dict.fromkeys(("seed", "params", "params_total", "tokens", "unique_tokens", "steps"), 1)
    reals = dict.fromkeys(
        ("epochs", "flops", "flops_exact", "loss", "loss_se", "bits_per_second", "seconds"), 1.0
    )
    old = {"lexical": {"accuracy": 0.6, "low": 0.5, "high": 0.7, "items": 9}}
    record = RunRecord(run="r", series="s", status="done", preset="paper", **counts, **reals, scores=old)
    save_model(Transformer(shape).eval(), folder / MODEL, {"kmeans": "k"}, record)
    write_record(record, folder / RECORD)
    return record


def test_benchmarks_of_one_model_stand_beside_each_other(tmp_path: Path) -> None:
    """Together or one after another: the same scores; of a task scored again only the last."""
    made = {task: task_shards(tmp_path / task, task) for task in ("sblimp", "sstorycloze", "tstorycloze")}
    one, two = tmp_path / "one", tmp_path / "two"
    a_run(one)
    a_run(two)
    words = [word for folder in made.values() for word in ("--benchmarks", folder)]
    done = subprocess.run([BIN, "eval", "run", one, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for folder in made.values():
        found = evaluate(str(two), [folder], two, PRESETS["official"])
    assert found.kept == ["sblimp", "sstorycloze"] and {each.task for each in found.accuracies} == set(made)
    told = [json.loads((folder / "scores.json").read_text()) for folder in (one, two)]
    assert told[0]["scores"] == told[1]["scores"] and told[0]["benchmarks"] == told[1]["benchmarks"]
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


def test_scores_of_two_conventions_or_models_do_not_mix(tmp_path: Path) -> None:
    made = [task_shards(tmp_path / task, task) for task in ("sblimp", "sstorycloze")]
    for name in ("one", "two"):
        release(tmp_path / name)
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
    assert found.kept == [] and found.table["task"].n_unique() == 2
    (out / "scores.json").unlink()
    with pytest.raises(UserError, match="does not say by which convention sblimp were scored"):
        evaluate(str(tmp_path / "two"), made[1:], out, PRESETS["zerospeech"])


def test_what_a_study_scored_stays_and_so_does_what_it_could_not(tmp_path: Path) -> None:
    """A study writes no scores.json into its runs; its convention is the official one."""
    run = tmp_path / "run"
    record = a_run(run)
    evaluate(str(run), [task_shards(tmp_path / "a", "lexical")], run, PRESETS["official"])
    (run / "scores.json").unlink()
    write_record(
        record.model_copy(update={"note": "1 pairs were not scored, the first lexical/9"}), run / RECORD
    )
    other = task_shards(tmp_path / "b", "sblimp")
    with pytest.raises(UserError, match="convention preset official"):
        evaluate(str(run), [other], run, PRESETS["slamkit"])
    found = evaluate(str(run), [other], run, PRESETS["official"])
    assert found.kept == ["lexical"]
    after = read_record(run / RECORD)
    assert set(after.scores) == {"lexical", "sblimp"} and after.note.endswith("the first lexical/9")


def prompted_shards(folder: Path, *stories: tuple[list[int], list[int], int | None]) -> Path:
    samples = []
    for number, (right, wrong, prompt) in enumerate(stories):
        for correct, units in ((True, right), (False, wrong)):
            label = {"task": "sstorycloze", "group_id": f"{number}", "pair_id": f"{number}", "prompt": prompt}
            row = {"extra": label | {"correct": correct}}
            samples.append(Sample(f"{number}-{correct}", np.array([*units, EOS], dtype=np.int16), 2.0, row))
    write_shard(folder / "s0", samples, [], MADE)
    return folder


def test_a_prompt_that_no_label_says_is_what_both_members_begin_with(tmp_path: Path) -> None:
    """By hand: 3 common units; one left of a member that the other begins with; labels before guesses; 0 is none; and
    of prompt and ending that were encoded apart, the unit repeated at the seam is no part of the ending."""
    model = release(tmp_path / "slm")
    stories = [
        ([1, 2, 3, 4, 5], [1, 2, 3, 6], None),
        ([1, 2, 3], [1, 2, 3, 4], None),
        ([1, 2, 3, 4], [1, 2, 3, 5], 2),
        ([1, 2, 3, 4], [1, 2, 3, 5], 0),
        ([5, 6, 6, 7], [5, 6, 8, 9], 2),
    ]
    made = prompted_shards(tmp_path / "shards", *stories)
    by = convention("official", given="prompt")
    found = evaluate(str(tmp_path / "slm"), [made], tmp_path / "out", by, precision="float32")
    rows = found.table.sort("pair_id").to_dicts()
    assert [row["units_prompt"] for row in rows] == [3, 2, 2, 0, 2]
    for row, (right, _, _) in zip(rows, [*stories[:4], ([5, 6, 7], [], 2)], strict=True):
        with torch.no_grad():
            log_p = model(torch.tensor([[EOS, *right[:-1]]]))[0].log_softmax(-1)
        nats = -log_p[torch.arange(len(right)), torch.tensor(right)]
        ending = row["nll_correct"] - row["nll_prompt"]
        assert ending == pytest.approx(nats[row["units_prompt"] :].sum().item(), rel=1e-4)
    told = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert told["benchmarks"]["sstorycloze"]["prompts_not_labelled"] == 2
    assert any("of 2 pairs no label says the prompt" in remark for remark in told["remarks"])


def test_endings_after_no_prompt_are_refused_before_scoring(tmp_path: Path) -> None:
    release(tmp_path / "slm")
    made = prompted_shards(tmp_path / "shards", ([1, 2], [3, 2], None), ([1, 2], [1, 3], 0))
    with pytest.raises(UserError, match="no pair has a prompt"):
        evaluate(str(tmp_path / "slm"), [made], tmp_path / "out", convention("official", given="prompt"))
    assert not (tmp_path / "out").exists()


def test_losses_are_weighted_by_tokens_within_and_across_corpora(shards: Path, tmp_path: Path) -> None:
    model = release(tmp_path / "slm")
    found, _ = losses(str(tmp_path / "slm"), shards, precision="float32")
    nats = {"a": 0.0, "b": 0.0}
    count = dict.fromkeys(nats, 0)
    for name, units in units_of(shards).items():
        corpus = "ab"[int(name.split("-")[0]) % 2]
        with torch.no_grad():
            logits = model(torch.tensor([[EOS, *units]]))[0]
        nats[corpus] += torch.nn.functional.cross_entropy(
            logits, torch.tensor([*units, EOS]), reduction="sum"
        ).item()
        count[corpus] += len(units) + 1
    for corpus in "ab":
        assert found[corpus].loss == pytest.approx(nats[corpus] / count[corpus], rel=1e-4)
        assert found[corpus].tokens == count[corpus]
    assert found[""].loss == pytest.approx(sum(nats.values()) / sum(count.values()), rel=1e-4)
    assert found[""].bits_per_second == pytest.approx(sum(nats.values()) / np.log(2) / (2 * 47), rel=1e-4)


def test_another_model_is_compared_with_what_stood_where_scores_are_written(
    shards: Path, tmp_path: Path
) -> None:
    """Not with what has just been written there; and pairs that one of the two lacks are told."""
    release(tmp_path / "slm")
    evaluate(str(tmp_path / "slm"), [shards], tmp_path / "out", PRESETS["official"])
    path = tmp_path / "out" / "scores.parquet"
    swapped = {"nll_correct": "nll_wrong", "nll_wrong": "nll_correct"}  # whatever was right is wrong
    first = pl.read_parquet(path)
    first.rename(swapped).select(first.columns).head(20).write_parquet(path)
    words = f"eval run slm --benchmarks {shards} -o out --compare out/scores.parquet"
    told = subprocess.run([BIN, *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "23 pairs here, 20 there, of which only 20 have a score in both." in told.stdout
    assert "p = 1.0000" not in told.stdout


def test_a_submission_that_is_there_stops_the_command_before_it_scores(shards: Path, tmp_path: Path) -> None:
    release(tmp_path / "slm")
    (tmp_path / "sub").mkdir()
    words = f"eval run slm --benchmarks {shards} -o out --submission sub"
    told = subprocess.run([BIN, *words.split()], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode != 0 and "sub: is there already" in told.stderr
    assert not (tmp_path / "out").exists()


def test_eval_run_and_loss_as_typed(shards: Path, tmp_path: Path) -> None:
    release(tmp_path / "slm")
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
