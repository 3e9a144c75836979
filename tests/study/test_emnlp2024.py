"""The published ladder: sizes, tokens per update, steps, warm-up and FLOPs against the tables of the study."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.plan import check_gpu_options
from speechscale.study.ladder import ladder_runs, unique_tokens
from speechscale.study.spec import read_study
from speechscale.study.summary import Machine, ladder_table
from speechscale.train.schedule import warmup_steps

STUDY = read_study(Path(__file__).parents[2] / "studies" / "emnlp2024.toml")

# dim, layers, sequences and tokens per update, and tokens seen at the end of every run: RESULTS.md of the release.
PUBLISHED = [
    (512, 6, 64, 131_200, [662_560_000, 1_325_120_000, 2_066_400_000, 21_772_640_000]),
    (512, 6, 64, 131_200, [43_545_280_000, 65_324_480_000, 87_097_120_000, 108_869_760_000]),
    (768, 12, 128, 262_400, [1_364_480_000, 2_728_960_000, 5_457_920_000, 8_528_000_000]),
    (768, 12, 128, 262_400, [43_545_280_000, 65_324_480_000, 87_090_560_000, 108_869_760_000]),
    (1024, 12, 256, 524_800, [3_070_080_000, 4_933_120_000, 9_892_480_000]),
    (1024, 12, 256, 524_800, [19_417_600_000, 43_532_160_000, 65_311_360_000]),
    (1024, 24, 252, 516_600, [3_022_110_000, 4_933_530_000, 9_867_060_000, 19_759_950_000, 30_401_910_000]),
    (2048, 16, 456, 934_800, [8_272_980_000, 16_499_220_000]),
    (2048, 16, 494, 1_012_700, [26_330_200_000]),
    (2048, 16, 608, 1_246_400, [82_324_720_000]),
]
# Total parameters in millions, tied embedding counted once, by (dim, layers).
MILLIONS = {(512, 6): 20.71, (768, 12): 85.34, (1024, 12): 154.68, (1024, 24): 308.85, (2048, 16): 823.18}


def test_ladder_has_exactly_the_runs_of_the_table() -> None:
    found = {
        (run.dim, run.layers, run.batch, run.batch * run.context, run.tokens) for run in ladder_runs(STUDY)
    }
    wanted = {(*size, tokens) for *size, all_tokens in PUBLISHED for tokens in all_tokens}
    assert found == wanted and len(found) == 31


def test_budgets_are_whole_steps() -> None:
    for run in ladder_runs(STUDY):
        assert run.tokens_seen == run.tokens == run.steps * run.batch * 2050
        assert warmup_steps(run.steps) == max(100, run.steps // 100)
        assert (run.preset, run.weight_decay, run.peak_lr) == ("paper", 0.1, 5e-4)


def test_sizes_are_the_published_ones() -> None:
    shapes = {(size.dim, size.layers): STUDY.shape(size) for size in STUDY.ladder.sizes}
    assert {key: round(shape.params_total / 1e6, 2) for key, shape in shapes.items()} == MILLIONS
    assert shapes[512, 6].params == 20_453_888


def test_flops_of_the_curve_and_of_the_two_long_runs() -> None:
    """29 runs of 5.9e20 FLOPs by 6 N D together, and two extended ones of 1.3e20 and 4.1e20."""
    runs = ladder_runs(STUDY)
    flops = {run.run: run.shape(502).flops(run.tokens) for run in runs}
    long = sorted(flops.pop(run.run) for run in runs if run.batch in (494, 608))
    assert len(flops) == 29 and float(f"{sum(flops.values()):.1e}") == 5.9e20
    assert [float(f"{each:.1e}") for each in long] == [1.3e20, 4.1e20]
    embedded = {(dim, layers): 502 * dim for dim, layers in MILLIONS}
    by_hand = sum(
        6 * (1e6 * MILLIONS[dim, layers] - embedded[dim, layers]) * sum(tokens)
        for dim, layers, batch, _, tokens in PUBLISHED
        if batch not in (494, 608)
    )
    assert sum(flops.values()) == pytest.approx(by_hand, rel=1e-3)


def test_runs_of_one_and_of_several_epochs() -> None:
    """14 runs see less than the corpus; the smallest size is trained for up to ten epochs, in steps of two."""
    epochs = {run.run: run.tokens / (unique_tokens(STUDY, run) or 1) for run in ladder_runs(STUDY)}
    assert sum(value < 1 for value in epochs.values()) == 14
    several = [value for name, value in epochs.items() if name.startswith("20.5M") and value > 1]
    assert sorted(round(value) for value in several) == [2, 4, 6, 8, 10]


def test_plan_gives_hours_and_cost() -> None:
    lines = ladder_table(STUDY, Machine("H100", 0.4 * 989e12, 2.0)).splitlines()
    assert len(lines) == 1 + 31 + 1 + 1 and lines[0].split()[-2:] == ["hours", "cost"]
    exact, hours, cost = (float(cell.replace(",", "")) for cell in lines[-2].split()[-3:])
    assert hours == pytest.approx(exact / (0.4 * 989e12) / 3600, rel=0.01)
    assert cost == pytest.approx(2 * hours, abs=0.2)
    assert "hours" not in ladder_table(STUDY)


@pytest.mark.parametrize(
    ("gpu", "mfu", "price", "message"),
    [
        ("H1000", 0.4, None, r"GPU 'H1000' is not in the table \(did you mean 'H100'\?\)"),
        ("H100", 0.0, None, "MFU of 0"),
        ("H100", 0.4, 0.0, "a price of 0"),
        (None, 0.4, 2.0, "a price without a GPU"),
    ],
)
def test_impossible_machines_are_refused(
    gpu: str | None, mfu: float, price: float | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_gpu_options(gpu, mfu, price)
