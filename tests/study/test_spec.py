"""Study files: every shipped one parses, and a bad one is answered in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.study.ladder import ladder_runs
from speechscale.study.run import run_study
from speechscale.study.spec import read_study
from speechscale.train.spec import read_run
from speechscale.workers.local import LocalBackend

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))
SMOKE = (Path(__file__).parents[2] / "studies" / "smoke.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_parse_and_name_every_run_once(path: Path) -> None:
    spec = read_study(path)
    runs = ladder_runs(spec)
    expected = 0
    for series in spec.series:
        ladder = spec.ladder_of(series)
        alone = sum(len(size.steps) for size in ladder.sizes)
        expected += len(ladder.sizes) * len(ladder.budgets) + alone
    assert len({run.run for run in runs}) == len(runs) == expected >= 16
    assert len(spec.ladder.sizes) >= 4
    costs = [run.shape(spec.vocabulary_of(run.series)).flops_exact(run.tokens) for run in runs]
    assert costs == sorted(costs, reverse=True)


def rejected(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_study(path)
    return str(error.value)


def test_unknown_key_names_file_key_and_nearest(tmp_path: Path) -> None:
    message = rejected(tmp_path, SMOKE.replace("words_per_minute", "word_per_minute"))
    assert "study.toml" in message and "'world.word_per_minute'" in message
    assert "did you mean 'words_per_minute'?" in message and "nothing was started" in message


def test_unknown_key_in_a_size_is_found_too(tmp_path: Path) -> None:
    message = rejected(tmp_path, SMOKE.replace("dim = 16, heads", "dim = 16, head = 1, heads"))
    assert "'ladder.sizes.0.head'" in message and "did you mean 'heads'?" in message


def test_wrong_type_names_the_key_and_the_value(tmp_path: Path) -> None:
    message = rejected(tmp_path, SMOKE.replace("seed = 1\n", 'seed = "one"\n'))
    assert "world.seed" in message and "'one'" in message


def test_missing_key(tmp_path: Path) -> None:
    assert "'world.prose' is missing" in rejected(tmp_path, SMOKE.replace("prose = 600\n", ""))


def test_impossible_shape(tmp_path: Path) -> None:
    assert "dim 24" in rejected(tmp_path, SMOKE.replace("dim = 24, heads = 2", "dim = 24, heads = 5"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("prose = 600", 'prose = "600"', "world.prose"),
        ("layers = 1", "layers = true", "ladder.sizes.0.layers"),
        ("dim = 16", "dim = 16.0", "ladder.sizes.0.dim"),
        ('size = "small"', 'size = "medium"', "medium"),
        ("minutes_per_shard = 5", "minutes_per_shard = 5\n[units.mel]\nwindow = 512", "window 512"),
        (
            "minutes_per_shard = 5",
            "minutes_per_shard = 5\n[units.mel]\nlowest = 7900.0",
            "lowest 7900",
        ),
        (
            "minutes_per_shard = 5",
            'minutes_per_shard = 5\n[units.hubert]\nmodel = "o/n"\nlayer = 1\nchunks = 3',
            "unknown key 'units.hubert.chunks' (did you mean 'chunk_seconds'?)",
        ),
        (
            "minutes_per_shard = 5",
            'minutes_per_shard = 5\n[units.hubert]\nmodel = "o/n"\nlayer = 1\n[units.mel]\nwindow = 800',
            "keep one",
        ),
        ('voices_unseen = ["en-us+f2"]', 'voices_unseen = ["en-us"]', "a voice must be in one of them only"),
    ],
)
def test_values_are_not_coerced(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert old in SMOKE
    assert key in rejected(tmp_path, SMOKE.replace(old, new, 1))


def test_two_runs_with_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMOKE.replace("{ tokens = 16_000 }", "{ tokens = 8_000 }"))
    with pytest.raises(UserError, match="a run of the same name"):
        ladder_runs(read_study(path))


def ladder_of(tmp_path: Path, budgets: str) -> list[tuple[str, int, int | None]]:
    path = tmp_path / "study.toml"
    at, series, laws = (SMOKE.index(part) for part in ("budgets = [", "[[series]]", "[laws]"))
    path.write_text(SMOKE[:at] + budgets + SMOKE[SMOKE.index("]\n", at) + 2 : series] + SMOKE[laws:])
    return [(run.run, run.tokens, run.unique_tokens) for run in ladder_runs(read_study(path))]


def test_budgets_in_tokens_per_parameter_and_in_epochs(tmp_path: Path) -> None:
    """layers 1, dim 16: N = 4 * 16^2 + 3 * 16 * 48 + 2 * 16 + 16 = 3,376."""
    budgets = "budgets = [{ tokens_per_parameter = 20 }, { epochs = 2.5, unique = 8_000 }]\n"
    runs = ladder_of(tmp_path, budgets)
    assert len(runs) == 8
    assert ("3.38k-67.5k", 20 * 3_376, None) in runs
    assert ("3.38k-20k-of-8k", 20_000, 8_000) in runs


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ("budgets = [{ tokens = 9, epochs = 2 }]\n", "one of tokens, tokens_per_parameter and epochs"),
        ("budgets = [{ unique = 9 }]\n", "one of tokens, tokens_per_parameter and epochs"),
        ("budgets = [{ epochs = 2 }]\n", "a budget in epochs needs `unique`"),
        ("budgets = [{ tokens_per_parameter = 0.0 }]\n", "greater than 0"),
        ("", "size 0 has no runs"),
    ],
)
def test_budgets_with_too_many_or_too_few_keys_are_refused(
    tmp_path: Path, budgets: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ladder_of(tmp_path, budgets)


GIVEN = '[corpus]\ntrain = "a"\ntest = "b"\nbenchmarks = "c"\nvocabulary = 66\nunique_tokens = 1000\n'


def test_study_has_exactly_one_corpus(tmp_path: Path) -> None:
    assert "one of the tables [world]" in rejected(tmp_path, SMOKE.replace("[units]", GIVEN + "[units]", 1))
    without = SMOKE[: SMOKE.index("[world]")] + SMOKE[SMOKE.index("[units]") :]
    assert "one of the tables [world]" in rejected(tmp_path, without)
    message = rejected(tmp_path, without.replace("[units]", GIVEN.replace("test =", "tset =") + "[units]", 1))
    assert "'corpus.tset'" in message and "did you mean 'test'?" in message


def test_budgets_in_epochs_of_input_shards(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    text = (
        SMOKE[: SMOKE.index("[world]")] + GIVEN + SMOKE[SMOKE.index("[units]") : SMOKE.index("budgets = [")]
    )
    path.write_text(text + "budgets = [{ epochs = 4 }]\n")
    spec = read_study(path)
    assert {run.tokens for run in ladder_runs(spec)} == {4000} and spec.vocabulary == 66
    with pytest.raises(UserError, match="no shards of units here"):
        run_study(spec, tmp_path / "out", backend=LocalBackend(1))
    assert not (tmp_path / "out").exists()


def test_broken_toml_and_missing_file(tmp_path: Path) -> None:
    assert "not valid TOML" in rejected(tmp_path, "name = ")
    with pytest.raises(UserError, match="cannot be opened"):
        read_study(tmp_path / "absent.toml")


def test_shipped_run_parses() -> None:
    assert read_run(STUDIES[0].parent / "runs" / "one.toml").steps == 312


def test_run_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('run = "a"\nlayers = 1\ndim = 16\nheads = 1\nbatch = 2\ntokens = 1000\ncontext = 64\n')
    assert read_run(path).steps == 1000 // 128
    path.write_text('run = "../a"\nlayers = 1\ndim = 16\nheads = 1\nbatch = 2\ntokens = 1000\n')
    with pytest.raises(UserError, match=r"run = '\.\./a'"):
        read_run(path)
    path.write_text('run = "a"\nlayers = 1\ndim = 16\nheads = 3\nbatch = 2\ntokens = 1000\n')
    with pytest.raises(UserError, match="dim 16 must be an even multiple of heads 3"):
        read_run(path)


def test_encoder_of_a_study_is_mel_unless_it_names_a_hubert(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMOKE)
    assert read_study(path).units.encoder()["name"] == "mel"
    commit = "a" * 40
    hubert = f'[units.hubert]\nmodel = "owner/name"\nrevision = "{commit}"\nlayer = 6\n'
    path.write_text(SMOKE.replace("minutes_per_shard = 5", f"minutes_per_shard = 5\n{hubert}", 1))
    chosen = read_study(path).units.encoder()
    assert (chosen["name"], chosen["model"], chosen["revision"], chosen["layer"]) == (
        "hubert",
        "owner/name",
        commit,
        6,
    )
