"""TOML files of runs, the corpora that they name, and values that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.shards import Shard
from speechscale.train.spec import MixtureComponent, RunSpec, open_corpora, read_run, to_toml

RUN = """
run = "mix"
layers = 1
dim = 16
heads = 1
batch = 4
context = 32
tokens = 1280
"""


def test_toml_of_a_spec_reads_back(spec: RunSpec, tmp_path: Path) -> None:
    components = (
        MixtureComponent(shards='a "quoted" folder', weight=3.0),
        MixtureComponent(shards="b", weight=1.0),
    )
    mixture = spec.model_copy(update={"corpora": components, "keep": (8, 12), "document_masking": True})
    (tmp_path / "run.toml").write_text(to_toml(mixture), encoding="utf-8")
    assert read_run(tmp_path / "run.toml") == mixture


def test_corpora_of_a_toml_file_and_of_the_command_line(
    two_corpora: tuple[list[Shard], list[Shard]], tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        RUN + '[[corpora]]\nshards = "c"\ntokens = 960\n[[corpora]]\nshards = "d"\ntokens = 320\n'
    )
    from_file, corpora = open_corpora(read_run(path), tmp_path)
    assert [corpus.weight for corpus in corpora] == [960, 320]
    without = read_run(path).model_copy(update={"corpora": ()})
    folders = [tmp_path / "c", tmp_path / "d"]
    from_command, corpora = open_corpora(without, tmp_path, folders, [3.0, 1.0])
    assert [corpus.weight for corpus in corpora] == [3, 1]
    assert [component.shards for component in from_command.corpora] == [str(folder) for folder in folders]
    assert "shards" not in str(from_file.identity()) and "shards" not in str(from_command.identity())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[corpora]]\nshards = "c"\ntokens = 960', "add up to 960, tokens says 1280"),
        ('[[corpora]]\nshards = "c"\nweight = 1.0\n[[corpora]]\nshards = "d"', "give every corpus a weight"),
        (
            '[[corpora]]\nshards = "c"\nweight = -1.0',
            "corpora.0.weight = -1.0: Input should be greater than 0",
        ),
        ('[[corpora]]\nshard = "c"', "did you mean 'shards'"),
        ('unique_tokens = 64\n[[corpora]]\nshards = "c"', "give it to the corpus that it limits"),
    ],
)
def test_impossible_mixtures_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(RUN + text)
    with pytest.raises(UserError, match=message):
        read_run(path)


def test_folders_and_weights_that_do_not_match_are_refused(spec: RunSpec, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    mixture = spec.model_copy(update={"corpora": (MixtureComponent(shards="a"),)})
    limited = spec.model_copy(update={"unique_tokens": 64})
    for run, folders, weights, message in (
        (mixture, [a], [], "names corpora, and so does --shards"),
        (spec, [], [], "no training shards"),
        (mixture, [], [1.0], "--weight goes with --shards"),
        (spec, [a, b], [1.0], "1 --weight for 2 --shards"),
        (limited, [a, b], [], "unique_tokens limits one corpus"),
    ):
        with pytest.raises(UserError, match=message):
            open_corpora(run, tmp_path, folders, weights)


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), 0.0, -1.0])
def test_weights_must_be_positive_and_finite(spec: RunSpec, tmp_path: Path, weight: float) -> None:
    with pytest.raises(UserError, match=f"--weight {weight:g}: a weight is a number above zero"):
        open_corpora(spec, tmp_path, [tmp_path / "a", tmp_path / "b"], [1.0, weight])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "tokens = 127",
            r"tokens = 127 are less than one update of batch 4 x context 32 = 128; raise tokens",
        ),
        ("peak_lr = inf", "peak_lr = inf: Input should be a finite number"),
        ("weight_decay = inf", "weight_decay = inf: Input should be a finite number"),
        ('schedule = "wsd"\ntrunk = "../other"', "trunk = '../other': String should match pattern"),
    ],
)
def test_impossible_runs_are_refused(tmp_path: Path, line: str, message: str) -> None:
    text = 'run = "x"\nlayers = 1\ndim = 8\nheads = 1\ncontext = 32\nbatch = 4\n'
    (tmp_path / "run.toml").write_text(text + line + ("" if "tokens" in line else "\ntokens = 128"))
    with pytest.raises(UserError, match=message) as refused:
        read_run(tmp_path / "run.toml")
    assert "Value error" not in str(refused.value)


def test_impossible_schedules_are_refused(spec: RunSpec) -> None:
    fields = spec.model_dump()
    with pytest.raises(ValueError, match=r"a warm-up of 9 steps does not fit: .* the last 2 decay"):
        RunSpec(**{**fields, "schedule": "wsd", "warmup": 9})
    with pytest.raises(ValueError, match="only runs of schedule 'wsd' have a trunk"):
        RunSpec(**{**fields, "trunk": "long"})


def test_tokens_of_a_branch_are_those_after_its_trunk(spec: RunSpec) -> None:
    wsd = spec.model_copy(update={"schedule": "wsd"})  # 10 steps, of which the last 2 decay
    branch = wsd.model_copy(update={"trunk": "long"})
    assert (wsd.tokens_trained, branch.tokens_trained) == (10 * 4 * 32, 2 * 4 * 32)
    assert wsd.tokens_seen == branch.tokens_seen == 10 * 4 * 32
