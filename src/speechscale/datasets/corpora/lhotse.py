"""Lhotse's recordings and cuts (`.jsonl.gz`), which its recipes make from more than a hundred corpora."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speechscale.datasets.corpora.source import TRAIN, CorpusSource, UtteranceOrSkip
from speechscale.datasets.corpora.splits import split_from_name
from speechscale.datasets.corpora.utterances import AudioChecker
from speechscale.datasets.reading import read_json_lines
from speechscale.errors import SampleFault, UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.shards import Skip

_ADVICE = "write the audio out with lhotse first (`CutSet.save_audios`)"
_RESAMPLE = "Resample"  # the one transform that may be ignored, because all audio is resampled later


def matches(path: Path) -> bool:
    """Whether the first line is a recording or a cut of lhotse."""
    for _, line in read_json_lines(path):
        return isinstance(line, dict) and ("sources" in line or "recording" in line or "tracks" in line)
    return False


def read(source: CorpusSource) -> Iterator[UtteranceOrSkip]:
    """Read an utterance per cut or per recording; transcript and speaker come from the supervisions of a cut.

    Raises:
        UserError: the compressed file is damaged or incomplete, or lists supervisions only.
    """
    split = split_from_name(source.path.name) or TRAIN
    with AudioChecker(source) as checker:
        for where, line in read_json_lines(source.path):
            if isinstance(line, str):
                yield Skip(where, "bad entry", f"{where}: {line}; make the list again with lhotse")
                continue
            if "recording_id" in line and "start" in line and "recording" not in line:
                raise UserError(
                    f"{source.path}: lists supervisions, which name no audio; give the cuts "
                    "(`lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS`, `lhotse cut trim-to-supervisions`)."
                )
            yield _utterance(checker, split, where, line)


def _utterance(checker: AudioChecker, split: str, where: str, line: Mapping[str, Any]) -> UtteranceOrSkip:
    dataset, lhotse_id = checker.source.dataset, line.get("id")
    has_id = isinstance(lhotse_id, str) and bool(lhotse_id)
    utterance_id = f"{dataset}/{lhotse_id}" if has_id else ""
    is_recording = "sources" in line
    parse: Callable[[Mapping[str, Any]], JsonObject] = _recording_fields if is_recording else _cut_fields
    try:
        fields = parse(line)
    except SampleFault as fault:
        return Skip(utterance_id or where, fault.reason, f"{where}: {fault.detail}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        detail = f"{where}: not as lhotse writes it ({error!r}); make the list again"
        return Skip(utterance_id or where, "bad entry", detail)
    fields |= {"id": utterance_id, "dataset": dataset, "split": split}
    return checker.check(where, fields, is_whole_file=is_recording)


def _recording_fields(line: Mapping[str, Any]) -> JsonObject:
    channels = line.get("channel_ids") or [c for source in line["sources"] for c in source["channels"]]
    audio, channel = _audio_file(line, channels)
    return {
        "audio": audio,
        "channel": channel,
        "duration": line["num_samples"] / line["sampling_rate"],
        "extra": _custom_fields(line),
    }


def _cut_fields(line: Mapping[str, Any]) -> JsonObject:
    if line.get("type", "MonoCut") not in ("MonoCut", "MultiCut") or "tracks" in line:
        kind = line.get("type", "MixedCut")
        raise SampleFault("not plain audio", f"a {kind} is mixed or padded when it is loaded; {_ADVICE}")
    if line.get("recording") is None:
        raise SampleFault(
            "no audio", "the cut has no recording; make cuts from recordings, not from features"
        )
    channels = line["channel"] if isinstance(line["channel"], list) else [line["channel"]]
    audio, channel = _audio_file(line["recording"], channels)
    fields = {"audio": audio, "channel": channel, "offset": line["start"], "duration": line["duration"]}
    words = _aligned_words(line)
    extra = _custom_fields(line) | ({"aligned_text": words} if words else {})
    return fields | _transcript_and_speaker(line.get("supervisions") or []) | {"extra": extra}


def _transcript_and_speaker(supervisions: list[Mapping[str, Any]]) -> JsonObject:
    """Texts of all supervisions in order of time; the speaker where all supervisions have the same."""
    ordered = sorted(supervisions, key=lambda s: s["start"])
    texts = [s["text"] for s in ordered if s.get("text")]
    speakers = {s.get("speaker") for s in ordered}
    return {
        "transcript": " ".join(texts) or None,
        "speaker": speakers.pop() if len(speakers) == 1 else None,
    }


def _custom_fields(line: Mapping[str, Any]) -> JsonObject:
    """Fields that a recipe adds to the cut and, where it has only one, to its supervision."""
    supervisions = line.get("supervisions") or []
    of_supervision = (supervisions[0].get("custom") or {}) if len(supervisions) == 1 else {}
    return {**of_supervision, **(line.get("custom") or {})}


def _aligned_words(line: Mapping[str, Any]) -> list[JsonObject]:
    """Words of a cut with their seconds from its start, in the fields of sTinyStories.

    Lhotse counts the times of an alignment from the start of the recording, wherever the cut begins.
    """
    return [
        {
            "word": item[0],
            "start_time": round(item[1] - line["start"], 6),
            "end_time": round(item[1] - line["start"] + item[2], 6),
        }
        for supervision in line.get("supervisions") or []
        for item in (supervision.get("alignment") or {}).get("word", [])
    ]


def _audio_file(recording: Mapping[str, Any], channels: list[int]) -> tuple[str, int | None]:
    """The file that holds these channels, and the index of the channel in it (None: all channels of the file).

    Raises:
        SampleFault: the audio is not in one file, or is transformed when lhotse loads it.
    """
    for transform in recording.get("transforms") or []:
        if transform["name"] != _RESAMPLE:
            raise SampleFault(
                "not plain audio", f"{transform['name']} is applied when it is loaded; {_ADVICE}"
            )
    for source in recording["sources"]:
        if set(channels) <= set(source["channels"]):
            break
    else:
        raise SampleFault(
            "no channel", f"no one source of the recording holds channels {channels}; {_ADVICE}"
        )
    if source["type"] != "file":
        raise SampleFault(
            "no file", f"its source is a {source['type']}, which is not run or fetched here; {_ADVICE}"
        )
    if not isinstance(source["source"], str):
        raise TypeError("source is no path")
    if set(channels) == set(source["channels"]):
        return source["source"], None
    if len(channels) > 1:
        raise SampleFault("no channel", f"{len(channels)} of {len(source['channels'])} channels; {_ADVICE}")
    return source["source"], source["channels"].index(channels[0])
