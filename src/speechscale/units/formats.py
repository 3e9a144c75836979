"""Unit files of other toolkits (fairseq, textlesslib, slamkit): conversion to shards and back.

- `fairseq` (GSLM): `name|71 71 93 82`, one utterance per line, one entry per frame unless units were collapsed.
- `textless` (textlesslib): `name<TAB>71 93 82`, or units alone; run lengths in a second file, `.durations`.
- `slamkit`: JSON Lines of `units`, `duration` (in frames) and `file_name`: slamkit's features.
- `slamkit-tokens`: JSON Lines of `audio_repr`, `<Un71><Un93>…`, and `file_name`. Read only.
Files are read line by line; of previous utterances only the ids are kept in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from speechscale.errors import SampleFault, UserError, nearest
from speechscale.records.json_objects import JsonObject
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import atomic_directory, atomic_write, sha256_file
from speechscale.records.shards import Sample, Shard, Skip, is_written, vocabulary_of, write_shard
from speechscale.units.codebook import codebook_identity
from speechscale.units.collapse import append_eos, collapse

# Among this many frames of speech some unit repeats: at 25 Hz more than one frame in ten equals its predecessor.
_MIN_FRAMES_WITH_REPEATS = 1000

Format = TypeVar("Format")


@dataclass(frozen=True)
class UnitFileInfo:
    """What a file of units does not say itself.

    Attributes:
        format: name of its format.
        clusters: number of distinct units.
        encoder: description of the encoder.
        codebook: file of the k-means of the units, of which the hash is recorded.
        keep_repeats: keep equal neighbours apart instead of collapsing them.
        frame_rate: in Hz; None where durations in seconds are unknown.
    """

    format: str
    clusters: int
    encoder: str = "unknown"
    codebook: Path | None = None
    keep_repeats: bool = False
    frame_rate: float | None = None

    def preprocessing(self, source: Path) -> JsonObject:
        """How the units were made, as far as it is known, in the field names of `meta.json`."""
        return {
            "manifest_sha256": sha256_file(source),
            "source_format": self.format,
            "revisions": revisions_of("import units"),
            "sample_rate": None,
            "frame_rate": self.frame_rate,
            "unit_extractor": {"name": self.encoder},
            "collapsed": not self.keep_repeats,
            "kmeans": codebook_identity(self.codebook)
            if self.codebook
            else {"name": "unknown", "sha256": None},
            **vocabulary_of(self.clusters),
        }


@dataclass(frozen=True)
class UnitSequence:
    """The utterance of one line."""

    name: str | None
    units: np.ndarray  # int64
    durations: np.ndarray | None = None  # int64, in frames


def read_units(source: Path, info: UnitFileInfo, out: Path, units_per_shard: int) -> None:
    """Convert a file of units to a folder of shards, completely or not at all; returns at once if it exists.

    An utterance without units is skipped; a broken line is an error.

    Args:
        source: the file of units.
        info: its format, and what the file does not say itself.
        out: folder of the shards.
        units_per_shard: a shard is closed as soon as it has this many units.

    Raises:
        UserError: a line is broken, repeats an id, or has a unit outside the clusters (the line is named); or `out`
            holds something else.
    """
    reader = _require_format(info.format, READERS)
    if not source.is_file():
        raise UserError(f"{source}: no such file; a file of units in the format {info.format} is wanted.")
    preprocessing = info.preprocessing(source)
    if out.exists() and is_written(out / _shard_name(0), preprocessing):
        return
    count = 0
    with atomic_directory(out) as staging:
        groups = _group_by_shard(_parse_lines(source, reader, info), units_per_shard)
        for number, (samples, skips) in enumerate(groups):
            _require_frames(source, samples, info)
            write_shard(staging / _shard_name(number), samples, skips, preprocessing)
            count += len(samples)
        if not count:
            raise UserError(f"{source}: holds no units in the format {info.format}.")


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def _group_by_shard(
    outcomes: Iterator[Sample | Skip], units_per_shard: int
) -> Iterator[tuple[list[Sample], list[Skip]]]:
    """Consecutive samples and skips of each shard."""
    samples: list[Sample] = []
    skips: list[Skip] = []
    units = 0
    for outcome in outcomes:
        if isinstance(outcome, Skip):
            skips.append(outcome)
        else:
            samples.append(outcome)
            units += len(outcome.units)
        if units >= units_per_shard:
            yield samples, skips
            samples, skips, units = [], [], 0
    if samples or skips:
        yield samples, skips


def _require_format(name: str, formats: dict[str, Format]) -> Format:
    if name not in formats:
        raise UserError(f"no format {name!r}{nearest(name, set(formats))}; known: {', '.join(formats)}.")
    return formats[name]


def _parse_lines(source: Path, reader: Reader, info: UnitFileInfo) -> Iterator[Sample | Skip]:
    """The sample or skip of each line, in order; ids are unique."""
    seen: set[str] = set()
    for number, parse in reader(source):
        try:
            sequence = parse()
            name = sequence.name if sequence.name is not None else f"{source.stem}:{number}"
            if name in seen:
                raise ValueError(f"the id {name!r} occurs a second time")
            seen.add(name)
            yield _to_sample(name, sequence, info)
        except SampleFault as fault:
            yield Skip(name, fault.reason, f"{source.name}:{number}: {fault.detail}")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{source}:{number}: {what}; wanted: {_EXPECTED[info.format]}.") from error


def _to_sample(name: str, sequence: UnitSequence, info: UnitFileInfo) -> Sample:
    """Raises SampleFault: no units; ValueError: invalid units or durations."""
    units, durations = sequence.units, sequence.durations
    if not len(units):
        raise SampleFault("empty", "no units")
    if units.min() < 0 or units.max() >= info.clusters:
        raise ValueError(
            f"units span {units.min()} to {units.max()}, {info.clusters} clusters allow 0 to {info.clusters - 1}"
        )
    if durations is not None and (len(durations) != len(units) or durations.min() < 1):
        raise ValueError(f"{len(units)} units have {len(durations)} durations, or one below 1 frame")
    if durations is None and info.frame_rate:
        durations = np.ones(len(units), dtype=np.int64)
    frames = None if durations is None else int(durations.sum())
    if not info.keep_repeats:
        units, runs = collapse(units)
        durations = None if durations is None else np.add.reduceat(durations, np.cumsum(runs) - runs)
    units, with_eos = append_eos(units, np.empty(0) if durations is None else durations, info.clusters)
    return Sample(
        id=name,
        units=units,
        seconds=frames / info.frame_rate if frames and info.frame_rate else None,
        row={"source_audio": name},
        durations=None if durations is None else with_eos,
    )


def _require_frames(source: Path, samples: Sequence[Sample], info: UnitFileInfo) -> None:
    """Check that a frame rate applies: the entries are frames, or durations are known.

    Raises:
        UserError: no unit ever lasts longer than a frame, so the file was collapsed and seconds would be wrong.
    """
    entries = sum(len(sample.units) for sample in samples)
    if info.frame_rate is None or entries < _MIN_FRAMES_WITH_REPEATS:
        return
    long = any(sample.durations is not None and sample.durations.max() > 1 for sample in samples)
    repeats = any((sample.units[1:] == sample.units[:-1]).any() for sample in samples)
    if not long and not repeats:
        raise UserError(
            f"{source}: no unit lasts longer than one frame, so repeats were removed and durations are lost; "
            "leave out --frame-rate."
        )


Parse = Callable[[], UnitSequence]
Reader = Callable[[Path], Iterator[tuple[int, Parse]]]  # line numbers, and the parsing of each line


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number, without its line break."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error}).") from error


def _integers(text: str) -> np.ndarray:
    if "_" in text:  # int() accepts 1_000
        raise ValueError(f"found {text[:40]!r}")
    return np.array(list(map(int, text.split())), dtype=np.int64)


def _integer_list(values: Any) -> np.ndarray:
    array = np.array(values)
    if not isinstance(values, list) or array.ndim != 1 or (len(values) and array.dtype.kind != "i"):
        raise ValueError(f"found {str(values)[:40]}")
    return array.astype(np.int64)


def _read_fairseq(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> UnitSequence:
        name, bar, units = line.rpartition("|")
        return UnitSequence(name if bar else None, _integers(units))

    return ((number, partial(parse, line)) for number, line in _lines(path) if line.strip())


def _read_textless(path: Path) -> Iterator[tuple[int, Parse]]:
    """Line n of the durations belongs to line n of the units, blank lines included."""

    def parse(line: str, durations_line: str | None) -> UnitSequence:
        name, tab, units = line.rpartition("\t")
        if durations_line is None:
            return UnitSequence(name if tab else None, _integers(units))
        other, _, durations = durations_line.rpartition("\t")
        if other != name:
            raise ValueError(
                f"{durations_path.name} has the name {other!r} on this line, here it is {name!r}"
            )
        return UnitSequence(name if tab else None, _integers(units), _integers(durations))

    durations_path = path.with_suffix(".durations")
    if not durations_path.exists() or durations_path == path:
        yield from ((number, partial(parse, line, None)) for number, line in _lines(path))
        return
    durations_lines = _lines(durations_path)
    for number, line in _lines(path):
        _, durations_line = next(durations_lines, (0, None))
        if durations_line is None:
            raise UserError(
                f"{durations_path}: ends before line {number} of {path}; one line for each is wanted."
            )
        yield number, partial(parse, line, durations_line)
    if next(durations_lines, None):
        raise UserError(f"{durations_path}: has more lines than {path}; one line for each is wanted.")


def _read_slamkit(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> UnitSequence:
        row = _object(line)
        durations = row.get("duration")
        return UnitSequence(
            _name(row),
            _integer_list(row["units"]),
            None if durations is None else _integer_list(durations),
        )

    return ((number, partial(parse, line)) for number, line in _lines(path) if line.strip())


def _read_slamkit_tokens(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> UnitSequence:
        row = _object(line)
        text = row["audio_repr"]
        if not isinstance(text, str) or (text and not (text.startswith("<Un") and text.endswith(">"))):
            raise ValueError(f"found {str(text)[:40]}")
        return UnitSequence(_name(row), _integers(text[3:-1].replace("><Un", " ")))

    return ((number, partial(parse, line)) for number, line in _lines(path) if line.strip())


def _object(line: str) -> JsonObject:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"found {line[:40]!r}")
    return row


def _name(row: JsonObject) -> str:
    name = row["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"file_name is {name!r}")
    return name


READERS: dict[str, Reader] = {
    "fairseq": _read_fairseq,
    "textless": _read_textless,
    "slamkit": _read_slamkit,
    "slamkit-tokens": _read_slamkit_tokens,
}
_EXPECTED = {
    "fairseq": "`name|71 71 93 82`",
    "textless": "`name<TAB>71 93 82`, and as many numbers on the same line of the .durations file",
    "slamkit": '`{"units": [71, 93], "duration": [2, 1], "file_name": "…"}`',
    "slamkit-tokens": '`{"audio_repr": "<Un71><Un93>", "file_name": "…"}`, units only',
}


def write_units(shards: Sequence[Shard], format: str, out: Path, *, expand: bool = False) -> int:
    """Write shards as a file of units for another toolkit, without EOS; returns the number of utterances.

    Args:
        shards: shards of units.
        format: `fairseq`, `textless` or `slamkit`. `textless` also writes a `.durations` file where durations are
            known and `expand` is false.
        out: the file to write.
        expand: repeat each unit as many times as its duration in frames.

    Raises:
        UserError: shards of tokens, durations that are needed and not known, or an id with a line break.
    """
    line = _require_format(format, WRITERS)
    if "unigram" in shards[0].preprocessing:
        raise UserError(f"{shards[0].folder}: holds unigram tokens; give the shards of units.")
    if format == "textless" and not expand and all(shard.durations is not None for shard in shards):
        durations_path = out.with_suffix(".durations")
        if durations_path == out:
            raise UserError(
                f"{out}: is the name of the durations file; choose another name for the units, for example .units."
            )
        durations = (_textless_line(name, frames) for name, _, frames in _sequences(shards, expand=False))
        _write_lines(durations_path, durations)
    return _write_lines(out, (line(*sequence) for sequence in _sequences(shards, expand)))


def _write_lines(path: Path, lines: Iterator[str]) -> int:
    count = 0
    with atomic_write(path) as stream:
        for line in lines:
            count += 1
            if "\n" in line or "\r" in line:
                raise UserError(f"{path}: an id with a line break cannot be written: {line[:60]!r}.")
            stream.write(line.encode() + b"\n")
    return count


def _sequences(shards: Sequence[Shard], expand: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Id, units and durations of every sample, without EOS; with `expand` units repeated and no durations."""
    for shard in shards:
        durations = shard.sample_durations()
        if expand and durations is None and len(shard.lengths):
            raise UserError(
                f"{shard.folder}: does not hold the durations of its units, so frames cannot be written."
            )
        for row, units, frames in zip(shard.rows(), shard.samples(), durations or repeat(None), strict=False):
            if frames is None:
                yield row["id"], units[:-1], None
            elif expand:
                yield row["id"], np.repeat(units[:-1], frames[:-1]), None
            else:
                yield row["id"], units[:-1], frames[:-1]


def _joined(numbers: np.ndarray | None) -> str:
    return " ".join(map(str, [] if numbers is None else numbers.tolist()))


def _fairseq_line(name: str, units: np.ndarray, durations: np.ndarray | None) -> str:
    return f"{name}|{_joined(units)}"


def _textless_line(name: str, units: np.ndarray | None, durations: np.ndarray | None = None) -> str:
    return f"{name}\t{_joined(units)}"


def _slamkit_line(name: str, units: np.ndarray, durations: np.ndarray | None) -> str:
    duration = {} if durations is None else {"duration": durations.tolist()}
    return json.dumps({"units": units.tolist(), **duration, "file_name": name})


WRITERS: dict[str, Callable[[str, np.ndarray, np.ndarray | None], str]] = {
    "fairseq": _fairseq_line,
    "textless": _textless_line,
    "slamkit": _slamkit_line,
}
