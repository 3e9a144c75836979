"""Lhotse's recordings and cuts (`.jsonl.gz`), so that its recipes are the adapters to a hundred corpora."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speechscale.datasets.corpora.entries import TRAIN, AudioChecker, Corpus, Entry, json_lines
from speechscale.datasets.corpora.splits import split_of
from speechscale.errors import SampleFault, UserError
from speechscale.records.shards import Skip

_SAVE = "write the audio out with lhotse first (`CutSet.save_audios`)"
_HARMLESS = "Resample"  # the one transform that needs no doing: all is resampled here


def looks_like_one(path: Path) -> bool:
    for _, line in json_lines(path):
        return isinstance(line, dict) and ("sources" in line or "recording" in line or "tracks" in line)
    return False


def read(corpus: Corpus) -> Iterator[Entry]:
    """An utterance a cut, or a whole recording; what is said and who says it come from the supervisions in a cut.

    Raises:
        UserError: the file cannot be opened or is cut short, or lists something else.
    """
    split = split_of(corpus.path.name) or TRAIN
    with AudioChecker(corpus) as looker:
        for where, line in json_lines(corpus.path):
            if isinstance(line, str):
                yield Skip(where, "bad entry", f"{where}: {line}; make the list again with lhotse")
                continue
            if "recording_id" in line and "start" in line and "recording" not in line:
                raise UserError(
                    f"{corpus.path}: lists supervisions, which name no audio; give the cuts "
                    "(`lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS`, `lhotse cut trim-to-supervisions`)."
                )
            yield _entry(corpus, looker, split, where, line)


def _entry(corpus: Corpus, looker: AudioChecker, split: str, where: str, line: Mapping[str, Any]) -> Entry:
    named = line.get("id")
    name = f"{corpus.dataset}/{named}" if isinstance(named, str) and named else where
    told_by: Callable[[Mapping[str, Any]], dict[str, Any]] = _recording if "sources" in line else _cut
    try:
        told = told_by(line)
    except SampleFault as fault:
        return Skip(name, fault.reason, f"{where}: {fault.detail}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        return Skip(name, "bad entry", f"{where}: not as lhotse writes it ({error!r}); make the list again")
    told |= {"id": name if name != where else "", "dataset": corpus.dataset, "split": split}
    return looker.entry(where, told, whole="sources" in line)


def _recording(line: Mapping[str, Any]) -> dict[str, Any]:
    channels = line.get("channel_ids") or [c for source in line["sources"] for c in source["channels"]]
    audio, channel = _source(line, channels)
    return {
        "audio": audio,
        "channel": channel,
        "duration": line["num_samples"] / line["sampling_rate"],
        "extra": _custom(line),
    }


def _cut(line: Mapping[str, Any]) -> dict[str, Any]:
    if line.get("type", "MonoCut") not in ("MonoCut", "MultiCut") or "tracks" in line:
        kind = line.get("type", "MixedCut")
        raise SampleFault("not plain audio", f"a {kind} is mixed or padded when it is loaded; {_SAVE}")
    if line.get("recording") is None:
        raise SampleFault(
            "no audio", "the cut has no recording; make cuts from recordings, not from features"
        )
    channels = line["channel"] if isinstance(line["channel"], list) else [line["channel"]]
    audio, channel = _source(line["recording"], channels)
    told = {"audio": audio, "channel": channel, "offset": line["start"], "duration": line["duration"]}
    return told | _said(line.get("supervisions") or []) | {"extra": _custom(line)} | _aligned(line)


def _said(supervisions: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Transcript and speaker of a cut; the speaker where there is but one."""
    ordered = sorted(supervisions, key=lambda s: s["start"])
    texts = [s["text"] for s in ordered if s.get("text")]
    speakers = {s.get("speaker") for s in ordered}
    return {
        "transcript": " ".join(texts) or None,
        "speaker": speakers.pop() if len(speakers) == 1 else None,
    }


def _custom(line: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe notes beyond lhotse's own fields, of the cut and of its one supervision."""
    supervisions = line.get("supervisions") or []
    own = (supervisions[0].get("custom") or {}) if len(supervisions) == 1 else {}
    return {**own, **(line.get("custom") or {})}


def _aligned(line: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` with the words of a cut and their seconds in it, in the fields of sTinyStories.

    Lhotse counts the times of an alignment from the start of the recording, wherever a cut begins.
    """
    words = [
        {
            "word": item[0],
            "start_time": round(item[1] - line["start"], 6),
            "end_time": round(item[1] - line["start"] + item[2], 6),
        }
        for supervision in line.get("supervisions") or []
        for item in (supervision.get("alignment") or {}).get("word", [])
    ]
    return {"extra": {**_custom(line), "aligned_text": words}} if words else {}


def _source(recording: Mapping[str, Any], channels: list[int]) -> tuple[str, int | None]:
    """The file that holds these channels, and the place of the one in it (None: all of it).

    Raises:
        SampleFault: it is no file, or not what would be heard.
    """
    for transform in recording.get("transforms") or []:
        if transform["name"] != _HARMLESS:
            raise SampleFault("not plain audio", f"{transform['name']} is applied when it is loaded; {_SAVE}")
    for source in recording["sources"]:
        if set(channels) <= set(source["channels"]):
            break
    else:
        raise SampleFault("no channel", f"no one source of the recording holds channels {channels}; {_SAVE}")
    if source["type"] != "file":
        raise SampleFault(
            "no file", f"its source is a {source['type']}, which is not run or fetched here; {_SAVE}"
        )
    if not isinstance(source["source"], str):
        raise TypeError("source is no path")
    if set(channels) == set(source["channels"]):
        return source["source"], None
    if len(channels) > 1:
        raise SampleFault("no channel", f"{len(channels)} of {len(source['channels'])} channels; {_SAVE}")
    return source["source"], source["channels"].index(channels[0])
