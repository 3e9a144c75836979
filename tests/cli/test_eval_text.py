"""`speechscale eval text` as it is typed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedTokenizerFast
from typer.testing import CliRunner

from speechscale.cli import app
from speechscale.errors import UserError
from speechscale.records.runs_table import read_table

COMMAND = Path(sys.executable).with_name("speechscale")
WORDS = ["<end>", "she", "likes", "herself", "himself", "he"]


def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True)


def make_model(folder: Path) -> Path:
    """One layer that knows six words."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)
    config = GPTNeoXConfig(
        vocab_size=6, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_a_model_is_scored_and_put_into_the_table(tmp_path: Path) -> None:
    model, gold, table = make_model(tmp_path / "model"), tmp_path / "gold.csv", tmp_path / "runs.csv"
    with gold.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", "id", "voice", "type", "subtype", "transcription", "correct"])
        for voice in "ab":
            writer.writerow([f"{voice}1", 1, voice, "anaphor", "gender", "she likes herself", 1])
            writer.writerow([f"{voice}0", 1, voice, "anaphor", "gender", "she likes himself", 0])
    arguments = ("eval", "text", model, "--benchmark", f"sblimp={gold}", "-o", tmp_path / "out")
    done = typed(*arguments, "--table", table, "--tokens", 1000)
    assert done.returncode == 0, done.stderr
    first, score = done.stdout.splitlines()
    assert first.startswith("convention official: mean NLL, 0 before") and not done.stderr
    assert score.startswith("sblimp ") and "1 items" in score
    row = read_table(table).row(0, named=True)
    assert (row["run"], row["series"], row["tokens"]) == ("model", "text", 1000.0)
    assert json.loads((tmp_path / "out" / "record.json").read_text())["scores"]["sblimp"]["items"] == 1


def test_what_cannot_be_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    gold = tmp_path / "gold.csv"
    for given, more, said in (
        ("sblimp", [], "task=path is wanted"),
        (f"sblimp={gold}", [], "cannot be opened"),
        (f"sblimp={gold}", ["--table", str(tmp_path / "runs.csv")], "say it with --tokens"),
        (
            f"sblimp={gold}",
            ["--table", str(tmp_path / "runs.csv"), "--nll", "sum"],
            "all of the study's convention",
        ),
    ):
        words = [
            "eval",
            "text",
            "owner/nowhere@main",
            "--benchmark",
            given,
            "-o",
            str(tmp_path / "out"),
            *more,
        ]
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, UserError) and said in str(done.exception)
    for name in ("EleutherAI/pythia-70m", "nowhere", "EleutherAI/pythia-70m@"):
        words = ["eval", "text", name, "--benchmark", f"sblimp={gold}", "-o", str(tmp_path / "out")]
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, UserError) and "owner/name@revision is wanted" in str(
            done.exception
        )
    assert not list(tmp_path.iterdir())
