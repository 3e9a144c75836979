"""JSON Lines, one object per utterance: the manifest schema of the study, NeMo's manifests and similar ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.datasets.reading import read_json_lines
from speechscale.records.json_objects import JsonObject
from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip

# Names of our fields in the study's released code, in NeMo's manifests and in data sets on the Hugging Face hub.
_ALIASES = {
    "audio": ("audio_path", "path", "audio_filepath", "file"),
    "transcript": ("text", "sentence"),
    "sample_rate": ("sampling_rate",),
    "speaker": ("speaker_id",),
}


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read every line; audio paths are absolute or relative to the root, unknown fields are kept in `extra`.

    Raises:
        UserError: the compressed file is damaged or incomplete.
    """
    with AudioChecker(source) as checker:
        for where, line in read_json_lines(source.path):
            if isinstance(line, str):
                yield Skip(where, "bad entry", f"{where}: {line}; correct or remove the line")
            else:
                yield checker.check(where, utterance_fields(line, source.dataset))


def utterance_fields(line: Mapping[str, Any], dataset: str) -> JsonObject:
    """The fields of `Utterance` that a line states under any of their known names, not validated."""
    fields = {
        key: value for key, value in line.items() if key in Utterance.model_fields and value is not None
    }
    unknown = {key: value for key, value in line.items() if key not in Utterance.model_fields}
    for field, aliases in _ALIASES.items():
        for alias in aliases:
            if field not in fields and unknown.get(alias) is not None:
                fields[field] = unknown.pop(alias)
    fields.setdefault("dataset", dataset)
    fields.setdefault("split", TRAIN)
    for field in ("id", "speaker"):
        if isinstance(fields.get(field), int):
            fields[field] = str(fields[field])
    if "id" not in fields and "audio" in fields:
        fields["id"] = f"{fields['dataset']}/{fields['audio']}@{fields.get('offset', 0)}"
    if unknown and isinstance(fields.setdefault("extra", {}), dict):
        fields["extra"] = {**unknown, **fields["extra"]}
    return fields
