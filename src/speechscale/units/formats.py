"""Units in the files of other makers: fairseq, textlesslib, slamkit; read into shards, and written from them.

- `fairseq` (GSLM): `name|71 71 93 82`, one utterance a line, one entry a frame unless its maker collapsed them.
- `textless` (textlesslib): `name<TAB>71 93 82`, or units alone; run lengths in a file beside it, `.durations`.
- `slamkit`: JSON Lines of `units`, `duration` (in frames) and `file_name`: its features.
- `slamkit-tokens`: JSON Lines of `audio_repr`, `<Un71><Un93>…`, and `file_name`. Read only.

Files are read line by line; of an utterance passed by only its id is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from speechscale.errors import SampleFault, UserError, nearest
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import atomic_directory, atomic_write, sha256_file
from speechscale.records.shards import Sample, Shard, Skip, is_written, vocabulary_of, write_shard
from speechscale.units.collapse import close, collapse
from speechscale.units.kmeans import code_book_identity

_ENOUGH = 1000  # entries among which frames of speech would repeat: at 25 Hz more than one in ten does


@dataclass(frozen=True)
class Foreign:
    """What a file of units does not say itself."""

    format: str
    clusters: int
    made_by: str = "unknown"  # the encoder, in words
    code_book: Path | None = None  # the k-means of these units; only its hash is taken
    frames: bool = False  # keep one entry a frame, instead of making one of equal neighbours
    frame_rate: float | None = None  # Hz; None: how long utterances last is not known

    def preprocessing(self, source: Path) -> dict[str, Any]:
        """How the units were made, as far as it is known, in the names of `meta.json`."""
        unnamed = {"name": "unknown", "sha256": None}
        return {
            "manifest_sha256": sha256_file(source),
            "source_format": self.format,
            "revisions": revisions_of("import units"),
            "sample_rate": None,
            "frame_rate": self.frame_rate,
            "unit_extractor": {"name": self.made_by},
            "collapsed": not self.frames,
            "kmeans": code_book_identity(self.code_book) if self.code_book else unnamed,
            **vocabulary_of(self.clusters),
        }


@dataclass(frozen=True)
class Entry:
    """An utterance as its line says it."""

    name: str | None
    units: np.ndarray  # int64
    durations: np.ndarray | None = None  # int64 frames


def read_units(source: Path, foreign: Foreign, out: Path, units_per_shard: int) -> None:
    """Turn a file of units into a folder of shards, whole or not at all; nothing is done where it stands already.

    An utterance without units is skipped; a broken line ends the reading.

    Raises:
        UserError: naming the line that is broken, repeats an id, or has a unit outside the clusters; or `out` holds
            something else.
    """
    reader = _known(foreign.format, READERS)
    if not source.is_file():
        raise UserError(f"{source}: no such file; a file of units in the format {foreign.format} is wanted.")
    preprocessing = foreign.preprocessing(source)
    if out.exists() and is_written(out / _shard(0), preprocessing):
        return
    count = 0
    with atomic_directory(out) as aside:
        shardfuls = _shardfuls(_outcomes(source, reader, foreign), units_per_shard)
        for number, (samples, skips) in enumerate(shardfuls):
            _check_frames(source, samples, foreign)
            write_shard(aside / _shard(number), samples, skips, preprocessing)
            count += len(samples)
        if not count:
            raise UserError(f"{source}: holds no units in the format {foreign.format}.")


def _shard(number: int) -> str:
    return f"shard-{number:05d}"


def _shardfuls(
    outcomes: Iterator[Sample | Skip], units_per_shard: int
) -> Iterator[tuple[list[Sample], list[Skip]]]:
    """Neighbours together, until they hold so many units."""
    samples: list[Sample] = []
    skips: list[Skip] = []
    held = 0
    for outcome in outcomes:
        if isinstance(outcome, Skip):
            skips.append(outcome)
        else:
            samples.append(outcome)
            held += len(outcome.units)
        if held >= units_per_shard:
            yield samples, skips
            samples, skips, held = [], [], 0
    if samples or skips:
        yield samples, skips


def _known(name: str, formats: dict[str, Any]) -> Any:
    if name not in formats:
        raise UserError(f"no format {name!r}{nearest(name, set(formats))}; known: {', '.join(formats)}.")
    return formats[name]


def _outcomes(source: Path, reader: Reader, foreign: Foreign) -> Iterator[Sample | Skip]:
    """What every line gives, in order; ids are unique."""
    seen: set[str] = set()
    for number, parse in reader(source):
        try:
            entry = parse()
            name = entry.name if entry.name is not None else f"{source.stem}:{number}"
            if name in seen:
                raise ValueError(f"the id {name!r} occurs a second time")
            seen.add(name)
            yield _sample(name, entry, foreign)
        except SampleFault as fault:
            yield Skip(name, fault.reason, f"{source.name}:{number}: {fault.detail}")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{source}:{number}: {what}; wanted: {_WANTED[foreign.format]}.") from error


def _sample(name: str, entry: Entry, foreign: Foreign) -> Sample:
    """Raises SampleFault: no units; ValueError: units or durations that cannot be."""
    units, durations = entry.units, entry.durations
    if not len(units):
        raise SampleFault("empty", "no units")
    if units.min() < 0 or units.max() >= foreign.clusters:
        raise ValueError(
            f"units span {units.min()} to {units.max()}, {foreign.clusters} clusters allow 0 to {foreign.clusters - 1}"
        )
    if durations is not None and (len(durations) != len(units) or durations.min() < 1):
        raise ValueError(f"{len(units)} units have {len(durations)} durations, or one below 1 frame")
    if durations is None and foreign.frame_rate:
        durations = np.ones(len(units), dtype=np.int64)
    frames = None if durations is None else int(durations.sum())
    if not foreign.frames:
        units, runs = collapse(units)
        durations = None if durations is None else np.add.reduceat(durations, np.cumsum(runs) - runs)
    closed, lasting = close(units, np.empty(0) if durations is None else durations, foreign.clusters)
    return Sample(
        id=name,
        units=closed,
        seconds=frames / foreign.frame_rate if frames and foreign.frame_rate else None,
        row={"source_audio": name},
        durations=None if durations is None else lasting,
    )


def _check_frames(source: Path, samples: Sequence[Sample], foreign: Foreign) -> None:
    """A frame rate says that entries are frames, or that durations are given; speech in which nothing lasts is neither.

    Raises:
        UserError: repeats were taken out before, so that seconds would be wrong.
    """
    entries = sum(len(sample.units) for sample in samples)
    if foreign.frame_rate is None or entries < _ENOUGH:
        return
    lasts = any(sample.durations is not None and sample.durations.max() > 1 for sample in samples)
    repeats = any((sample.units[1:] == sample.units[:-1]).any() for sample in samples)
    if not lasts and not repeats:
        raise UserError(
            f"{source}: no unit ever lasts longer than one frame, so repeats were taken out and the time is lost; "
            "leave out --frame-rate."
        )


Parse = Callable[[], Entry]
Reader = Callable[[Path], Iterator[tuple[int, Parse]]]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line with its number, without its end."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error}).") from error


def _integers(text: str) -> np.ndarray:
    if "_" in text:  # which int() would read over
        raise ValueError(f"found {text[:40]!r}")
    return np.array(list(map(int, text.split())), dtype=np.int64)


def _integer_list(values: Any) -> np.ndarray:
    array = np.array(values)
    if not isinstance(values, list) or array.ndim != 1 or (len(values) and array.dtype.kind != "i"):
        raise ValueError(f"found {str(values)[:40]}")
    return array.astype(np.int64)


def _read_fairseq(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> Entry:
        name, bar, units = line.rpartition("|")
        return Entry(name if bar else None, _integers(units))

    return ((number, _later(parse, line)) for number, line in _lines(path) if line.strip())


def _read_textless(path: Path) -> Iterator[tuple[int, Parse]]:
    """Line n of the durations belongs to line n of the units, blank ones too."""

    def parse(line: str, beside: str | None) -> Entry:
        name, tab, units = line.rpartition("\t")
        if beside is None:
            return Entry(name if tab else None, _integers(units))
        other, _, durations = beside.rpartition("\t")
        if other != name:
            raise ValueError(
                f"{durations_path.name} has the name {other!r} on this line, here it is {name!r}"
            )
        return Entry(name if tab else None, _integers(units), _integers(durations))

    durations_path = path.with_suffix(".durations")
    if not durations_path.exists() or durations_path == path:
        yield from ((number, _later(parse, line, None)) for number, line in _lines(path))
        return
    besides = _lines(durations_path)
    for number, line in _lines(path):
        _, beside = next(besides, (0, None))
        if beside is None:
            raise UserError(
                f"{durations_path}: ends before line {number} of {path}; one line for each is wanted."
            )
        yield number, _later(parse, line, beside)
    if next(besides, None):
        raise UserError(f"{durations_path}: has more lines than {path}; one line for each is wanted.")


def _read_slamkit(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> Entry:
        row = _object(line)
        durations = row.get("duration")
        return Entry(
            _name(row),
            _integer_list(row["units"]),
            None if durations is None else _integer_list(durations),
        )

    return ((number, _later(parse, line)) for number, line in _lines(path) if line.strip())


def _read_slamkit_tokens(path: Path) -> Iterator[tuple[int, Parse]]:
    def parse(line: str) -> Entry:
        row = _object(line)
        text = row["audio_repr"]
        if not isinstance(text, str) or (text and not (text.startswith("<Un") and text.endswith(">"))):
            raise ValueError(f"found {str(text)[:40]}")
        return Entry(_name(row), _integers(text[3:-1].replace("><Un", " ")))

    return ((number, _later(parse, line)) for number, line in _lines(path) if line.strip())


def _object(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"found {line[:40]!r}")
    return row


def _name(row: dict[str, Any]) -> str:
    name = row["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"file_name is {name!r}")
    return name


def _later(parse: Callable[..., Entry], *arguments: Any) -> Parse:
    """The parsing of a line, put off to where its errors are named."""
    return lambda: parse(*arguments)


READERS: dict[str, Reader] = {
    "fairseq": _read_fairseq,
    "textless": _read_textless,
    "slamkit": _read_slamkit,
    "slamkit-tokens": _read_slamkit_tokens,
}
_WANTED = {
    "fairseq": "`name|71 71 93 82`",
    "textless": "`name<TAB>71 93 82`, and as many numbers on the same line of the .durations file",
    "slamkit": '`{"units": [71, 93], "duration": [2, 1], "file_name": "…"}`',
    "slamkit-tokens": '`{"audio_repr": "<Un71><Un93>", "file_name": "…"}`, units only',
}


def write_units(shards: Sequence[Shard], format: str, out: Path, *, frames: bool = False) -> int:
    """Write shards as a file of another maker, EOS left out; returns the number of utterances.

    `frames`: each unit as often as it lasted frames. `textless` writes OUT and, where durations are known and `frames`
    is not asked for, the file beside it.

    Raises:
        UserError: unigram tokens, durations that are wanted and not known, or an id that no line can hold.
    """
    line = _known(format, WRITERS)
    if "unigram" in shards[0].preprocessing:
        raise UserError(f"{shards[0].folder}: holds unigram tokens; give the shards of units.")
    if format == "textless" and not frames and all(shard.durations is not None for shard in shards):
        beside = out.with_suffix(".durations")
        if beside == out:
            raise UserError(f"{out}: is the name of the durations; name the units otherwise, say .units.")
        _write_lines(beside, (_textless_line(name, lasting) for name, _, lasting in _entries(shards, False)))
    return _write_lines(out, (line(*entry) for entry in _entries(shards, frames)))


def _write_lines(path: Path, lines: Iterator[str]) -> int:
    count = 0
    with atomic_write(path) as stream:
        for line in lines:
            count += 1
            if "\n" in line or "\r" in line:
                raise UserError(f"{path}: an id with a line break cannot be written: {line[:60]!r}.")
            stream.write(line.encode() + b"\n")
    return count


def _entries(shards: Sequence[Shard], frames: bool) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Name, units and durations of every sample, without EOS; with `frames` each unit as often as it lasted."""
    for shard in shards:
        durations = shard.sample_durations()
        if frames and durations is None and len(shard.lengths):
            raise UserError(
                f"{shard.folder}: how long its units last was not kept, so frames cannot be written."
            )
        for row, units, lasting in zip(
            shard.rows(), shard.samples(), durations or repeat(None), strict=False
        ):
            if frames and lasting is not None:
                units, lasting = np.repeat(units[:-1], lasting[:-1]), None
            else:
                units, lasting = units[:-1], None if lasting is None else lasting[:-1]
            yield row["id"], units, lasting


def _joined(numbers: np.ndarray | None) -> str:
    return " ".join(map(str, [] if numbers is None else numbers.tolist()))


def _fairseq_line(name: str, units: np.ndarray, durations: np.ndarray | None) -> str:
    return f"{name}|{_joined(units)}"


def _textless_line(name: str, units: np.ndarray | None, durations: np.ndarray | None = None) -> str:
    return f"{name}\t{_joined(units)}"


def _slamkit_line(name: str, units: np.ndarray, durations: np.ndarray | None) -> str:
    lasting = {} if durations is None else {"duration": durations.tolist()}
    return json.dumps({"units": units.tolist(), **lasting, "file_name": name})


WRITERS: dict[str, Callable[[str, np.ndarray, np.ndarray | None], str]] = {
    "fairseq": _fairseq_line,
    "textless": _textless_line,
    "slamkit": _slamkit_line,
}
