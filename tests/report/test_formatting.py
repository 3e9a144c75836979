import pytest

from speechscale.report import formatting


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (950, "950"),
        (50_304, "50.3 k"),
        (999_900, "1.00 M"),
        (1_500_000, "1.50 M"),
        (10.89e9, "10.9 B"),
        (None, "–"),
    ],
)
def test_quantities_have_three_digits_and_a_unit(value, said):
    assert formatting.quantity(value) == said


@pytest.mark.parametrize(("value", "said"), [(1e13, "1e13"), (2.54e13, "2.5e13"), (6.0, "6e0"), (None, "–")])
def test_compute_is_written_as_the_command_line_takes_it(value, said):
    assert formatting.power(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.62, "0.620"), (1488, "1,488"), (-0.091, "-0.0910"), (3.2e-9, "3.20e-09"), (0, "0")]
)
def test_digits(value, said):
    assert formatting.digits(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(1.44, "1.4 s"), (43, "43 s"), (245, "4 min 05 s"), (7805, "2 h 10 min")]
)
def test_durations(seconds, said):
    assert formatting.duration(seconds) == said


def test_bounds_may_be_open_or_unknown():
    assert formatting.bounds([0.27, 0.331]) == "[0.270, 0.331]"
    assert formatting.bounds([0.27, None]) == "[0.270, ∞]"
    assert formatting.bounds(None) == ""


def test_short_task_names_have_no_prefix():
    assert formatting.task("minimal_pairs.npi_licensing") == "NPI licensing"
    assert formatting.task("minimal_pairs") == "Minimal pairs (grammar)"
