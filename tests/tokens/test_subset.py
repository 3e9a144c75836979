"""Selection of one dataset from shards of several."""

from __future__ import annotations

from pathlib import Path

import pytest
from transcribed_shards import PREPROCESSING, transcribed

from speechscale.errors import UserError
from speechscale.records.shards import Skip, encoding_of, open_shards, write_shard
from speechscale.tokens.batches import Windows
from speechscale.tokens.subset import write_subset


def test_subset_has_the_samples_of_one_dataset(tmp_path: Path) -> None:
    """The encoding of its shards is unchanged, so runs train on it like on the whole corpus."""
    stories = [transcribed(f"s{i}", "x", dataset="stories") for i in range(3)]
    write_shard(
        tmp_path / "units" / "s0", [transcribed("p0", "x"), *stories], [Skip("q", "r", "d")], PREPROCESSING
    )
    write_shard(
        tmp_path / "units" / "s1", [transcribed("p1", "x")], [], PREPROCESSING
    )  # no sample of the dataset
    write_subset(tmp_path / "units", tmp_path / "stories", "stories")
    shards = open_shards(tmp_path / "stories")
    assert [row["id"] for shard in shards for row in shard.rows()] == ["s0", "s1", "s2"]
    assert shards[0].seconds == 4.5 and shards[0].sample_durations()[0].tolist() == [3, 1, 0]
    assert encoding_of(shards[0]) == encoding_of(open_shards(tmp_path / "units")[0])
    windows = Windows(shards, context=4)
    assert windows.num_windows == 2 and windows.window(1).tolist() == [2, 10, 1, 2, 10]
    with pytest.raises(UserError, match="no utterance of 'poems' here; found prose, stories"):
        write_subset(tmp_path / "units", tmp_path / "poems", "poems")
