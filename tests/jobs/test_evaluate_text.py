"""Text models on written benchmarks: a small random GPT-NeoX with its tokenizer, against transformers itself."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedTokenizerFast

from speechscale.errors import UserError
from speechscale.evals.conventions import compared_nll, convention_from_preset
from speechscale.jobs.evaluate_text import TextModel, evaluate_text, parse_benchmarks, parse_text_model
from speechscale.model.hugging_face import load_causal_model
from speechscale.model.text_tokenizer import load_text_tokenizer
from speechscale.records.runs import read_record
from speechscale.records.runs_table import read_table
from speechscale.records.scores import read_score_table

LINES = [
    "The cat that chased the dogs sleeps near the house.",
    "She likes herself, and the boys like themselves.",
    "Ann was hungry. She wanted the cake. So she ate it.",
] * 20
PAIRS = [  # UID, phenomenon, good, bad
    ("agreement", "subject_verb_agreement", "The cats sleep.", "The cats sleeps."),
    ("anaphor", "anaphor_agreement", "She likes herself.", "She likes themselves."),
    ("anaphor_2", "anaphor_agreement", "The boys like themselves.", "The boys like herself."),
]
STORIES = [
    ("1", "Ann was hungry. She wanted the cake.", "So she ate it.", "So she chased the dogs near it."),
    ("2", "The cat sleeps near the house.", "The dogs chased it.", "She likes herself."),
]


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-NeoX and a byte-level BPE, as Pythia has them: one token begins, ends and separates documents."""
    folder = tmp_path_factory.mktemp("models") / "pythia-tiny"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(LINES, trainer)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=384,  # more than the tokenizer has, as in Pythia
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("benchmarks")
    lines = [
        {"sentence_good": good, "sentence_bad": bad, "UID": uid, "linguistics_term": term, "pairID": "0"}
        for uid, term, good, bad in PAIRS
    ]
    (folder / "blimp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (folder / "stories.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pair_id", "text", "type", "correctness"])
        for number, prompt, right, wrong in STORIES:
            writer.writerows(
                [
                    (number, prompt, "prompt", "-"),
                    (number, right, "continuation", "correct"),
                    (number, wrong, "continuation", "incorrect"),
                ]
            )
    return {"sblimp": folder / "blimp.jsonl", "sstorycloze": folder / "stories.csv"}


def by_hand(folder: Path, text: str) -> tuple[float, int]:
    """Summed NLL of a text after BOS, from transformers alone, one text at a time; and its tokens."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text)]])
    with torch.no_grad():
        mean = model(ids, labels=ids).loss
    return mean.item() * (ids.shape[1] - 1), ids.shape[1] - 1


def test_scores_match_transformers(neox: Path, benchmarks: dict[str, Path], tmp_path: Path) -> None:
    _, record = evaluate_text(TextModel(str(neox)), benchmarks, tmp_path, precision="float32")
    scores = read_score_table(tmp_path / "scores.parquet").to_dicts()
    texts = [(good, bad) for _, _, good, bad in PAIRS]
    texts += [(f"{prompt} {right}", f"{prompt} {wrong}") for _, prompt, right, wrong in STORIES]
    assert len(scores) == len(texts)
    right = []
    for row, members in zip(scores, texts, strict=True):
        expected = [by_hand(neox, text) for text in members]
        for member, (nll, tokens) in zip(("correct", "wrong"), expected, strict=True):
            assert row[f"nll_{member}"] == pytest.approx(nll, rel=1e-5)
            assert row[f"units_{member}"] == tokens
        right.append(expected[0][0] / expected[0][1] < expected[1][0] / expected[1][1])
    assert record.scores["sstorycloze"].accuracy == np.mean(right[3:])
    assert record.scores["sblimp"].accuracy == (right[0] + np.mean(right[1:3])) / 2  # over two phenomena
    assert read_record(tmp_path / "record.json") == record


def test_ending_is_scored_conditionally_on_its_prompt_and_a_sentence_without_prompt_as_a_whole(
    neox: Path, benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    convention = convention_from_preset("official", given="prompt")
    given, _ = evaluate_text(TextModel(str(neox)), benchmarks, tmp_path, convention, precision="float32")
    whole = given.table.with_columns(value=compared_nll("wrong", convention_from_preset("official")))
    ending = given.table.with_columns(value=compared_nll("wrong", convention))
    assert ending["value"].to_list()[:3] == whole["value"].to_list()[:3]  # BLiMP
    for row, (_, prompt, _, wrong) in zip(ending.tail(2).iter_rows(named=True), STORIES, strict=True):
        (all_nats, tokens), (nats, shared) = by_hand(neox, f"{prompt} {wrong}"), by_hand(neox, prompt)
        assert row["value"] == pytest.approx((all_nats - nats) / (tokens - shared), rel=1e-4)


def test_model_gets_a_row_of_the_runs_table(neox: Path, benchmarks: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("run,series,params,tokens,loss,sblimp\nmine,speech,1e6,2e7,2.5,0.6\n")
    for _ in range(2):  # the second replaces the first
        _, record = evaluate_text(
            TextModel(str(neox), tokens=5000), benchmarks, tmp_path / "out", table=table
        )
    layer = (32 * 96 + 96) + (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 4 * 32
    assert record.params == 2 * layer + 2 * 32 and record.params_total == record.params + 2 * 384 * 32
    rows = read_table(table)
    assert rows["run"].to_list() == ["mine", "pythia-tiny"] and rows["series"].to_list() == ["speech", "text"]
    row = rows.row(1, named=True)
    assert (row["params"], row["tokens"], row["loss"]) == (record.params, 5000, None)
    assert row["flops"] == 6 * record.params * 5000
    assert row["sstorycloze"] == record.scores["sstorycloze"].accuracy


def test_scores_of_several_benchmarks_accumulate(
    neox: Path, benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    """In the folder, the record and the table, also from separate folders."""
    model, table, out = TextModel(str(neox), tokens=5000), tmp_path / "runs.csv", tmp_path / "out"
    whole, _ = evaluate_text(model, benchmarks, tmp_path / "whole", precision="float32")
    for task, path in benchmarks.items():
        found, record = evaluate_text(model, {task: path}, out, table=table, precision="float32")
        evaluate_text(model, {task: path}, tmp_path / task, table=table, precision="float32")
    assert record.scores.keys() >= benchmarks.keys() and read_record(out / "record.json") == record
    order = ("task", "pair_id")
    assert_frame_equal(found.table.sort(order), whole.table.sort(order), rel_tol=1e-5)
    (row,) = read_table(table).to_dicts()
    assert all(row[task] == pytest.approx(record.scores[task].accuracy) for task in benchmarks)
    evaluate_text(TextModel(str(neox), tokens=6000), {task: path}, tmp_path / "later", table=table)
    (row,) = read_table(table).to_dicts()
    assert row["tokens"] == 6000 and row[task] is not None and row.get("sblimp") is None


def test_models_and_benchmarks_are_parsed(tmp_path: Path) -> None:
    assert parse_text_model("EleutherAI/pythia-70m@step3000") == TextModel(
        "EleutherAI/pythia-70m", "step3000"
    )
    assert parse_text_model("EleutherAI/pythia-70m@main").run == "pythia-70m@main"
    assert parse_text_model("EleutherAI/pythia-70m@main").tokens_seen() == 143_000 * 2_097_152
    with pytest.raises(UserError, match=r"owner/name@revision is wanted \(@main for the latest\)"):
        parse_text_model("EleutherAI/pythia-70m")
    assert parse_text_model("EleutherAI/pythia-70m@step3000").tokens_seen() == 3000 * 2_097_152
    odd = tmp_path / "a@b"
    odd.mkdir()
    assert parse_text_model(str(odd)) == TextModel(str(odd))
    assert parse_benchmarks(["a=b=c"]) == {"a": Path("b=c")}
    for given in (["sblimp"], ["=x"], ["a=b", "a=c"]):
        with pytest.raises(UserError, match="--benchmark"):
            parse_benchmarks(given)


def test_unknown_number_of_training_tokens_is_refused(neox: Path, tmp_path: Path) -> None:
    for model, message in (
        (TextModel(str(neox)), "the number of training tokens is unknown"),
        (parse_text_model("EleutherAI/pythia-70m@step0"), "has seen no token"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_text(model, {}, tmp_path, table=tmp_path / "runs.csv")
    assert not list(tmp_path.iterdir())


def test_folder_without_a_model_is_refused(neox: Path, benchmarks: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="its tokenizer cannot be opened"):
        evaluate_text(TextModel(str(empty)), benchmarks, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (empty / name).write_bytes((neox / name).read_bytes())
    with pytest.raises(UserError, match="cannot be opened as a causal language model"):
        evaluate_text(TextModel(str(empty)), benchmarks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizer_of_another_model_is_refused(
    neox: Path, benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(neox)
    tokenizer.save_pretrained(other)
    config = GPTNeoXConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    with pytest.raises(UserError, match="vocabulary ends at 99"):
        evaluate_text(TextModel(str(other)), benchmarks, tmp_path / "out")


def test_bos_defaults_to_eos(neox: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(neox)
    tokenizer.bos_token = None
    tokenizer.save_pretrained(tmp_path / "no-bos")
    assert (
        load_text_tokenizer(str(tmp_path / "no-bos"), None).bos
        == load_text_tokenizer(str(neox), None).eos
        == 0
    )
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "no-eos")
    with pytest.raises(UserError, match="names no end of a text"):
        load_text_tokenizer(str(tmp_path / "no-eos"), None)


def test_scores_do_not_depend_on_the_batch(neox: Path, benchmarks: dict[str, Path], tmp_path: Path) -> None:
    """A pair has the same likelihoods alone and among others."""
    lines = benchmarks["sblimp"].read_text().splitlines(keepends=True)
    (tmp_path / "one.jsonl").write_text(lines[1])
    model = TextModel(str(neox))
    evaluate_text(model, {"sblimp": tmp_path / "one.jsonl"}, tmp_path / "one", precision="float32")
    evaluate_text(model, benchmarks, tmp_path / "all", precision="float32")
    (alone,) = read_score_table(tmp_path / "one" / "scores.parquet").to_dicts()
    among = (
        read_score_table(tmp_path / "all" / "scores.parquet")
        .filter(pl.col("pair_id") == "anaphor/0")
        .to_dicts()[0]
    )
    assert alone["nll_correct"] == pytest.approx(among["nll_correct"], rel=1e-5)


def test_missing_weights_are_refused(neox: Path, benchmarks: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(neox, broken)
    weights = load_file(neox / "model.safetensors")
    last = max(name for name in weights if "mlp" in name)
    save_file({name: value for name, value in weights.items() if name != last}, broken / "model.safetensors")
    with pytest.raises(UserError, match=f"1 of its weights are missing .* {last}"):
        evaluate_text(TextModel(str(broken)), benchmarks, tmp_path / "out")


def test_row_with_a_shared_prefix_equals_two_rows(neox: Path) -> None:
    """The mask hides the other suffix: the logits are those of each sequence by itself."""
    model = load_causal_model(str(neox), None, torch.device("cpu"))
    assert model.supports_shared_prefix
    trunk, left, right = [0, 5, 6, 7], [8, 9], [10, 11, 12]
    size = len(trunk) + len(left) + len(right)
    visible = torch.ones(size, size, dtype=torch.bool).tril()
    visible[6:, 4:6] = False
    places = torch.tensor([[*range(4), 4, 5, 4, 5, 6]])
    together = model(
        torch.tensor([trunk + left + right]), attention_mask=visible[None, None], position_ids_BT=places
    )[0]
    for tokens, rows in ((trunk + left, [0, 1, 2, 3, 4, 5]), (trunk + right, [0, 1, 2, 3, 6, 7, 8])):
        alone = model(torch.tensor([tokens]))[0]
        assert torch.allclose(together[rows], alone, atol=1e-5)
    some = model(torch.tensor([trunk, trunk]), positions_S=torch.tensor([3, 6]))
    # Not bit for bit: products of other sizes may be computed by other kernels.
    assert torch.allclose(some, model(torch.tensor([trunk, trunk])).flatten(0, 1)[[3, 6]], atol=1e-6)


def test_every_convention_matches_transformers(
    neox: Path, benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    """Presets and switches, as for speech: summed, with the closing token, the ending alone, without a token before."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(neox)
    model = AutoModelForCausalLM.from_pretrained(neox).eval()

    def losses(text: str) -> np.ndarray:
        """NLL of every token of a text and of the closing one."""
        ids = torch.tensor([[0, *tokenizer.encode(text), 0]])
        with torch.no_grad():
            log_p = model(ids).logits[0, :-1].log_softmax(-1)
        return -log_p[torch.arange(ids.shape[1] - 1), ids[0, 1:]].numpy()

    stories = {"sstorycloze": benchmarks["sstorycloze"]}
    members = [[losses(f"{prompt} {end}") for end in ends] for _, prompt, *ends in STORIES]
    starts = [len(tokenizer.encode(prompt)) for _, prompt, *_ in STORIES]
    expected = {
        ("zerospeech", None): [[m[:-1].sum() for m in pair] for pair in members],
        ("slamkit", None): [[m.mean() for m in pair] for pair in members],
        ("official", "prompt"): [
            [m[n:-1].mean() for m in pair] for n, pair in zip(starts, members, strict=True)
        ],
    }
    for (preset, given), values in expected.items():
        convention = convention_from_preset(preset, given=given)
        found, record = evaluate_text(
            TextModel(str(neox)), stories, tmp_path, convention, precision="float32"
        )
        assert record.scores["sstorycloze"].accuracy == np.mean([right < wrong for right, wrong in values])
        compared = found.table.select(
            *(compared_nll(member, convention).alias(member) for member in ("correct", "wrong"))
        )
        assert np.allclose(compared.to_numpy(), values, rtol=1e-5)
        assert json.loads((tmp_path / "scores.json").read_text())["convention"]["preset"] == convention.preset


def test_runs_table_takes_the_official_convention_only(
    neox: Path, benchmarks: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="scores of the official convention only"):
        evaluate_text(
            TextModel(str(neox), tokens=5),
            benchmarks,
            tmp_path,
            convention_from_preset("slamkit"),
            table=tmp_path / "runs.csv",
        )
