import polars as pl

from speechscale.laws.table_checks import check_table
from speechscale.records.runs_table import canonical_table


def _table(**columns) -> pl.DataFrame:
    base = {"run": ["a", "b"], "params": [1e6, 2e6], "tokens": [1e8, 1e8], "flops": [6e14, 1.2e15]}
    return pl.DataFrame({**base, **columns})


def test_mixed_embedding_counts_are_reported():
    assert "mix both counts" in check_table(_table(params_total=[1e6, 2.5e6]))[0].message
    assert "run 'b' has more non-embedding" in check_table(_table(params_total=[2e6, 1e6]))[0].message
    assert check_table(_table(params_total=[1.1e6, 2.5e6])) == []


def test_long_warmup_is_reported():
    found = check_table(_table(steps=[400.0, 10000.0], warmup_steps=[100.0, 100.0]))
    assert found[0].check == "warm-up" and found[0].runs == ["a"]


def test_other_flops_convention_is_reported():
    assert "times 6 N D" in check_table(_table(flops=[9e14, 1.2e15]))[0].message


def test_mixed_recipes_are_reported():
    runs = pl.DataFrame(
        {
            "run": ["a", "b", "c"],
            "params": [1e6, 2e6, 3e6],
            "tokens": [1e8, 2e8, 3e8],
            "loss": [3.0, 2.9, 2.8],
            "preset": ["paper", "paper", "modern"],
            "schedule": ["cosine", "cosine", None],
        }
    )
    found = {check.check: check.message for check in check_table(canonical_table(runs))}
    assert "preset 'paper': 2 runs ('a', 'b'); preset 'modern': 1 run ('c')" in found["mixed preset"]
    assert "schedule 'cosine': 2 runs ('a', 'b')" in found["mixed schedule"]
    alike = runs.with_columns(preset=pl.lit("paper"), schedule=pl.lit("wsd"))
    assert not check_table(canonical_table(alike))


def test_mixed_tokenizers_and_vocabularies_are_reported():
    runs = _table(loss=[3.0, 2.9], Tokenizer=["units", "bpe"], vocab_size=[500, 5000], gpu=["a100", "h100"])
    found = {check.check: check.message for check in check_table(canonical_table(runs))}
    assert set(found) == {"mixed Tokenizer", "mixed vocab_size"}
    assert "Fit each as a series of its own" in found["mixed Tokenizer"]
