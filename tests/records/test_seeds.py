"""Independent random streams by name."""

from __future__ import annotations

import numpy as np

from speechscale.records.seeds import spawn, spawn_seed


def test_streams_depend_on_the_seed_and_on_every_name() -> None:
    seeds = {
        spawn_seed(0),
        spawn_seed(1),
        spawn_seed(0, "speech"),
        spawn_seed(0, "text"),
        spawn_seed(0, "speech", "laws"),
        spawn_seed(0, "laws", "speech"),
        spawn_seed(1, "speech"),
    }
    assert len(seeds) == 7


def test_streams_are_children_of_the_seed_sequence() -> None:
    """The spawn key of a counter gives the numbers of `SeedSequence.spawn`; names only replace the counter."""
    key = spawn(5, "speech").spawn_key
    by_hand = np.random.SeedSequence(5, spawn_key=key).generate_state(4)
    assert (spawn(5, "speech").generate_state(4) == by_hand).all()
    assert np.random.SeedSequence(5).spawn(1)[0].spawn_key == (0,) and len(key) == 1


def test_streams_are_uncorrelated() -> None:
    one, other = (np.random.default_rng(spawn(0, name)).standard_normal(20_000) for name in ("a", "b"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
