"""JSON Lines, one object an utterance or segment: the study's own manifest schema, and near relations of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from speechscale.datasets.corpora.entries import TRAIN, AudioChecker, Corpus, Entry, json_lines
from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip

# what others call our fields: the study's released code, NeMo's manifests, and what lies on the hub
_ALIASES = {
    "audio": ("audio_path", "path", "audio_filepath", "file"),
    "transcript": ("text", "sentence"),
    "sample_rate": ("sampling_rate",),
    "speaker": ("speaker_id",),
}


def read(corpus: Corpus) -> Iterator[Entry]:
    """Audio paths are relative to the root or absolute; fields unknown to us are kept in `extra`.

    Raises:
        UserError: the file cannot be opened or is cut short.
    """
    with AudioChecker(corpus) as looker:
        for where, line in json_lines(corpus.path):
            if isinstance(line, str):
                yield Skip(where, "bad entry", f"{where}: {line}; correct or remove the line")
            else:
                yield looker.entry(where, told_by(line, corpus.dataset))


def told_by(line: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The fields of an utterance that a line tells of."""
    told = {key: value for key, value in line.items() if key in Utterance.model_fields and value is not None}
    rest = {key: value for key, value in line.items() if key not in Utterance.model_fields}
    for field, aliases in _ALIASES.items():
        for alias in aliases:
            if field not in told and rest.get(alias) is not None:
                told[field] = rest.pop(alias)
    told.setdefault("dataset", dataset)
    told.setdefault("split", TRAIN)
    for field in ("id", "speaker"):
        if isinstance(told.get(field), int):
            told[field] = str(told[field])
    if "id" not in told and "audio" in told:
        told["id"] = f"{told['dataset']}/{told['audio']}@{told.get('offset', 0)}"
    if rest and isinstance(told.setdefault("extra", {}), dict):
        told["extra"] = {**rest, **told["extra"]}
    return told
