"""Shards derived from other shards, one for one: what they keep of their source, and how they name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechscale.records.json_objects import JsonObject
from speechscale.records.seal import sha256_json
from speechscale.records.shards import Sample, Shard, Skip, is_written, write_shard


def write_derived_shards(
    sources: Sequence[Shard],
    out: Path,
    convert: Callable[[Shard], Iterator[Sample | Skip]],
    changes: Mapping[str, Any],
) -> None:
    """Write the derived shards that do not exist yet.

    Args:
        sources: the shards to derive from.
        out: folder of the derived shards, each under the name of its source.
        convert: yields the samples and skips of the shard derived from a source.
        changes: fields of `preprocessing` in which the derived shards differ from their source.

    Raises:
        UserError: an existing shard was made from something else.
    """
    for source in sources:
        preprocessing = derived_preprocessing(source, changes)
        folder = out / source.folder.name
        if is_written(folder, preprocessing):
            continue
        results = list(convert(source))
        samples = [result for result in results if isinstance(result, Sample)]
        skips = [result for result in results if isinstance(result, Skip)]
        write_shard(folder, samples, skips, preprocessing)


def derived_preprocessing(source: Shard, changes: Mapping[str, Any]) -> JsonObject:
    """The `preprocessing` of a derived shard: that of its source with changes, and the identity of the source.

    The revisions of the stages are those of the source and of the changes.
    """
    identity = {"name": source.folder.name, "sha256": sha256_json(source.meta.checksums)}
    derived = {**source.preprocessing, **changes, "source_shard": identity}
    if "revisions" in changes:
        derived["revisions"] = {**source.preprocessing.get("revisions", {}), **changes["revisions"]}
    return derived


def copied_row(row: Mapping[str, Any]) -> JsonObject:
    """The fields of a source row that a derived sample keeps; `Sample` has a field of its own for the seconds."""
    return {key: value for key, value in row.items() if key != "seconds"}
