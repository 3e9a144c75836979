"""Utterances from the fields that a layout states, checked against the header of their audio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from speechscale.datasets.corpora.source import CorpusSource, UtteranceOrSkip
from speechscale.errors import SampleFault
from speechscale.records.manifest import Utterance
from speechscale.records.shards import Skip
from speechscale.records.validation import first_fault
from speechscale.speech.audio.decode import END_TOLERANCE_SECONDS, Recording, resolve_inside
from speechscale.speech.audio.recordings import RecordingCache


class AudioChecker:
    """Compares stated utterances with their audio files; use it in a `with` block."""

    def __init__(self, source: CorpusSource) -> None:
        self.source = source
        self._recordings = RecordingCache(source.root)

    def check(
        self,
        where: str,
        fields: Mapping[str, object],
        *,
        is_whole_file: bool = False,
        num_samples: int | None = None,
    ) -> UtteranceOrSkip:
        """The utterance with its measured duration and sample rate, or why it cannot be used.

        Args:
            where: place in the corpus, for the text of a skip.
            fields: fields of `Utterance` as the corpus states them; `audio` may be an absolute path.
            is_whole_file: the stated duration is that of the whole file and must agree with its header.
            num_samples: stated length of the whole file in samples at its own rate, instead of a duration.
        """
        return validated_utterance(
            where, fields, lambda utterance: self._measured(utterance, is_whole_file, num_samples)
        )

    def _measured(self, stated: Utterance, is_whole_file: bool, num_samples: int | None) -> Utterance:
        if stated.audio is None:
            if stated.synthesis:
                return stated
            raise SampleFault(
                "no audio", "no audio is named; speak a text with `speechscale synthesize` first"
            )
        path = resolve_inside(self.source.root, stated.audio)
        audio = stated.audio
        if Path(audio).is_absolute():
            audio = path.relative_to(self.source.root).as_posix()
        stated = stated.model_copy(update={"audio": audio})
        if self.source.trust_durations and stated.duration is not None:
            if not path.is_file():
                raise SampleFault("missing", f"{audio}: no such file; restore it or correct the list")
            return stated
        recording = self._recordings.open(stated)
        if num_samples is not None:
            is_whole_file = True
            stated = stated.model_copy(update={"duration": num_samples / recording.sample_rate})
        return with_measured_duration(recording, stated, is_whole_file=is_whole_file)

    def __enter__(self) -> AudioChecker:
        return self

    def __exit__(self, *_: object) -> None:
        self._recordings.__exit__()


def validated_utterance(
    where: str, fields: Mapping[str, object], measure: Callable[[Utterance], Utterance]
) -> UtteranceOrSkip:
    """The utterance of stated fields after `measure` has compared it with its audio, or why it cannot be used.

    `measure` raises `SampleFault` for an utterance that cannot be used.
    """
    name = fields.get("id") or where
    try:
        utterance = Utterance.model_validate(fields)
        utterance.model_dump_json()  # fails for text that cannot be written, such as a path that is not UTF-8
        return measure(utterance)
    except ValidationError as error:
        return Skip(str(name), "bad entry", f"{where}: {first_fault(error, 'the entry')}; correct it")
    except PydanticSerializationError:
        return Skip(str(name), "bad entry", f"{where}: holds text that is not UTF-8; rename or convert it")
    except SampleFault as fault:
        return Skip(str(name), fault.reason, f"{where}: {fault.detail}")


def with_measured_duration(recording: Recording, stated: Utterance, *, is_whole_file: bool) -> Utterance:
    """The utterance with the sample rate of its audio, and its duration in seconds as the header gives it.

    Raises:
        SampleFault: the segment ends beyond the audio, or the stated duration of the whole file is wrong.
    """
    length = recording.num_samples / recording.sample_rate
    duration = stated.duration
    if is_whole_file and duration is not None:
        if abs(duration - length) > END_TOLERANCE_SECONDS:
            raise SampleFault(
                "another length",
                f"{recording.name}: lasts {length:.3f} s, the list says {duration:.3f} s; list it again",
            )
        duration = length
    else:
        start, end = recording.sample_range(stated.offset, duration)
        if duration is None or stated.offset + duration > length:
            duration = (end - start) / recording.sample_rate
    return stated.model_copy(update={"sample_rate": recording.sample_rate, "duration": duration})
