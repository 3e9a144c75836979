"""Unigram tokens: units joined to the likeliest pieces, by SentencePiece; nothing is lost, however long the utterance.

A unit is written as one character, and an utterance as one string without spaces. SentencePiece estimates the pieces
(Kudo 2018) and finds the likeliest segmentation; the candidates it starts from are counted here, because its own count
(0.2.3) runs over bytes and misses most sequences of three-byte characters: of 380,000 candidates in a test 12,000 were
left, and tokens held 1.7 units instead of 2.2.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from speechscale.errors import UserError
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import (
    differing_fields,
    is_up_to_date,
    read_seal,
    sealed_folder,
    sha256_file,
    sha256_json,
    verify,
)
from speechscale.records.shards import (
    LARGEST_VOCABULARY,
    Sample,
    Shard,
    Skip,
    encoding_of,
    open_shard,
    open_shards,
    shards_identity,
    vocabulary_of,
    write_shard,
)

SCHEMA = "speechscale.unigram/1"
MODEL = "unigram.model"  # SentencePiece's own format
_FIRST = 0x4E00  # unit u is the character _FIRST + u: from here to 0xD7FF 35,328 characters without space or surrogate
_SENTENCE = (
    1000  # units; longer utterances are cut for training, as likelihoods of very long ones lose digits
)
_SEEDS = 1_000_000  # candidates that training starts from: SentencePiece's default
_UNKNOWN = 1  # SentencePiece keeps its id 0 for unknown characters, of which there are none


class UnigramSpec(BaseModel):
    """How many tokens, and from how much speech they are learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    vocabulary: int = Field(default=5000, ge=2, le=LARGEST_VOCABULARY - 2)  # without EOS and PAD
    units: int = Field(default=4_000_000, ge=1)  # a seeded sample of utterances that hold at least so many
    longest: int = Field(default=16, ge=2, le=256)  # units in a token, at most
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class UnigramTask:
    """Everything a worker needs to learn tokens."""

    shards: Path
    spec: UnigramSpec
    folder: Path  # where the model goes

    def provenance(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Spec and parents, as the seal of the model records them."""
        shards = _shards_of_units(self.shards)
        spec = {**self.spec.model_dump(), "encoding": encoding_of(shards[0])}
        return spec, {"shards": shards_identity(shards)}


def is_learnt(task: UnigramTask) -> bool:
    """Whether the model stands already.

    Raises:
        UserError: it stands, but was made from something else.
    """
    spec, parents = task.provenance()
    return is_up_to_date(task.folder, schema=SCHEMA, stage="unigram", spec=spec, parents=parents)


def learn_unigram(task: UnigramTask) -> int:
    """Learn tokens from a sample of the shards' utterances; returns the number of units learnt from.

    Raises:
        UserError: more tokens than the sample has pieces for, or fewer than there are units.
    """
    shards = _shards_of_units(task.shards)
    clusters = shards[0].preprocessing["eos_token"]
    sample = sample_utterances(shards, task.spec.units, task.spec.seed)
    model = train_unigram(sample, clusters, task.spec)
    spec, parents = task.provenance()
    with sealed_folder(task.folder, schema=SCHEMA, stage="unigram", spec=spec, parents=parents) as aside:
        (aside / MODEL).write_bytes(model)
    return sum(map(len, sample))


def sample_utterances(shards: Sequence[Shard], units: int, seed: int) -> list[np.ndarray]:
    """Utterances in seeded order, without EOS, until they hold so many units; all of them when there are fewer."""
    lengths = np.concatenate([shard.lengths for shard in shards])
    order = np.random.default_rng(seed).permutation(len(lengths))
    enough = int(np.searchsorted(np.cumsum(lengths[order] - 1), units)) + 1
    first = np.cumsum([0, *(len(shard.lengths) for shard in shards)])  # utterance of each shard
    starts = [np.cumsum(shard.lengths) - shard.lengths for shard in shards]
    chosen = []
    for index in order[:enough].tolist():
        number = int(np.searchsorted(first, index, side="right")) - 1
        start = starts[number][index - first[number]]
        chosen.append(np.asarray(shards[number].units[start : start + lengths[index] - 1]))
    return chosen


def train_unigram(utterances: Sequence[np.ndarray], clusters: int, spec: UnigramSpec) -> bytes:
    """A SentencePiece model of `spec.vocabulary` pieces in which each of the units 0 … clusters - 1 is one.

    Deterministic: one thread, and no draw but that of the sample.

    Raises:
        UserError: the vocabulary does not fit the units or the sample.
    """
    from sentencepiece import SentencePieceTrainer

    if spec.vocabulary < clusters:
        raise UserError(
            f"a vocabulary of {spec.vocabulary} tokens is smaller than the {clusters} units, each of which is a "
            "token of its own; ask for more."
        )
    missing = np.setdiff1d(np.arange(clusters), np.concatenate([*utterances, np.empty(0, dtype=np.int64)]))
    sentences = [
        utterance[start : start + _SENTENCE]
        for utterance in (*utterances, missing)  # those that do not occur too, so that no unit is unknown
        for start in range(0, len(utterance), _SENTENCE)
    ]
    model = io.BytesIO()
    with (
        TemporaryDirectory() as folder,
        chdir(folder),
    ):  # the model records the name of the file: no path in it
        Path("seeds.tsv").write_text("".join(_seed_lines(sentences, spec.longest)), encoding="utf-8")
        try:
            SentencePieceTrainer.train(
                sentence_iterator=(_text(sentence) for sentence in sentences),
                model_writer=model,
                model_type="unigram",
                vocab_size=spec.vocabulary + _UNKNOWN,
                seed_sentencepieces_file="seeds.tsv",
                max_sentencepiece_length=spec.longest,
                character_coverage=1.0,  # every unit is a token
                max_sentence_length=4 * _SENTENCE,  # bytes; SentencePiece drops what is longer
                input_sentence_size=0,  # all of it
                shuffle_input_sentence=False,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                split_by_unicode_script=False,
                split_by_whitespace=False,
                split_by_number=False,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,  # sums of several threads differ in their last digits
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _too_many(error, spec) from error
    return model.getvalue()


def _too_many(error: RuntimeError, spec: UnigramSpec) -> UserError:
    most = re.search(r"<= (\d+)", str(error))
    told = f"at most {int(most.group(1)) - _UNKNOWN} can be learnt from it" if most else f"{error}"
    return UserError(
        f"the sample of speech is too small for {spec.vocabulary} tokens ({told}); ask for a smaller vocabulary, "
        "or learn from more speech."
    )


def _text(units: np.ndarray) -> str:
    return (units.astype("<u4") + _FIRST).tobytes().decode("utf-32-le")


def _seed_lines(sentences: Sequence[np.ndarray], longest: int) -> Iterator[str]:
    """`piece<TAB>count` of the candidates that cover most units, as SentencePiece ranks them: count x length."""
    stream = np.concatenate([np.append(sentence, -1) for sentence in sentences]).astype(np.int64)
    found = list(repeats(stream, longest))
    if not found:
        return
    lengths, starts, counts = (np.concatenate(part) for part in zip(*found, strict=True))
    best = np.argsort(-lengths * counts, kind="stable")[:_SEEDS]
    text = _text(np.maximum(stream, 0))
    for length, start, count in zip(
        *(part[best].tolist() for part in (lengths, starts, counts)), strict=True
    ):
        yield f"{text[start : start + length]}\t{count}\n"


def repeats(stream: np.ndarray, longest: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sequences of 2 … `longest` units that occur twice or more, and not always followed by one and the same unit.

    These are the inner nodes of the suffix tree, from which SentencePiece starts as well. Sequences do not run over
    the separator -1. Yields int64 (length, start of one occurrence, occurrences) of each, one length after the other.
    """
    units = stream + 1  # the separator is 0
    base = int(units.max(initial=0)) + 1
    at, names = (
        np.flatnonzero(units),
        units[units > 0],
    )  # occurrences of sequences so far, and which sequence each is
    counts = starts = np.empty(0, dtype=np.int64)
    for length in range(2, longest + 2):
        following = units[np.minimum(at + length - 1, len(units) - 1)]
        longer = following > 0
        at, names = at[longer], names[longer] * base + following[longer]
        found, first, names, occurrences = np.unique(
            names, return_index=True, return_inverse=True, return_counts=True
        )
        if len(counts):
            always = np.zeros_like(counts)
            np.maximum.at(always, found // base, occurrences)
            inner = (counts > 1) & (counts > always)
            yield np.full(inner.sum(), length - 1), starts[inner], counts[inner]
        counts, starts = occurrences, at[first]
        again = occurrences[names] > 1
        at, names = at[again], names[again]


class Unigram:
    """Tokens of units and back; token 0 … vocabulary - 1, without EOS."""

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(_UNKNOWN, len(self._processor))]
        self.vocabulary = len(pieces)
        self.lengths = np.array([len(piece) for piece in pieces])  # units of each token
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._units = (np.frombuffer("".join(pieces).encode("utf-32-le"), dtype="<u4") - _FIRST).astype(
            np.int16
        )

    def encode(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The likeliest tokens of each utterance (units without EOS), int16.

        Raises:
            UserError: a unit that the model does not know.
        """
        if not utterances:
            return []
        units = np.concatenate(utterances)
        ends = np.cumsum([len(utterance) for utterance in utterances]).tolist()
        text = _text(units)
        texts = [text[start:end] for start, end in pairwise([0, *ends])]
        found = self._processor.encode(texts, out_type="numpy", num_threads=1)
        tokens = np.concatenate(found) - _UNKNOWN
        if len(tokens) and tokens.min() < 0:
            raise UserError(
                f"units up to {units.max()} are not among those that the tokens were learnt from."
            )
        return np.split(tokens.astype(np.int16), np.cumsum([len(some) for some in found])[:-1])

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The units of tokens, int16."""
        lengths = self.lengths[tokens]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        return self._units[np.repeat(self._starts[tokens], lengths) + within]

    def frames(self, tokens: np.ndarray, durations: np.ndarray) -> np.ndarray:
        """For how many frames each token lasts, from the durations of its units; int32."""
        lengths = self.lengths[tokens]
        starts = np.cumsum(lengths) - lengths
        return np.add.reduceat(durations, starts).astype(np.int32) if len(tokens) else durations[:0]


def load_unigram(folder: Path) -> Unigram:
    """The model in a folder that `learn_unigram` sealed.

    Raises:
        UserError: none there, or it was changed since.
    """
    verify(folder, SCHEMA)
    return Unigram((folder / MODEL).read_bytes())


@dataclass(frozen=True)
class TokenTask:
    """Everything a worker needs for one shard of tokens."""

    folder: Path
    source: Path  # the shard of units
    unigram: Path
    preprocessing: dict[str, Any]


def plan_tokens(shards: Path, unigram: Path, out: Path) -> list[TokenTask]:
    """One shard of tokens for each shard of units.

    Raises:
        UserError: no model there, or it was learnt from units that were made otherwise.
    """
    sources = _shards_of_units(shards)
    learnt = read_seal(unigram, SCHEMA).spec
    differing = differing_fields(encoding_of(sources[0]), learnt["encoding"])
    if differing:
        raise UserError(
            f"{shards}: made otherwise than the units that {unigram} was learnt from: {'; '.join(differing)}."
        )
    vocabulary = learnt["vocabulary"]
    identity = {"name": MODEL, "sha256": sha256_file(unigram / MODEL), "vocabulary": vocabulary}
    return [
        TokenTask(
            folder=out / source.folder.name,
            source=source.folder,
            unigram=unigram,
            preprocessing={
                **source.preprocessing,
                **vocabulary_of(vocabulary),
                "unigram": identity,
                "revisions": {
                    **source.preprocessing.get("revisions", {}),
                    **revisions_of("unigram tokens"),
                },
                "source_shard": {
                    "name": source.folder.name,
                    "sha256": sha256_json(source.meta.checksums),
                },
            },
        )
        for source in sources
    ]


def write_tokens(task: TokenTask) -> None:
    """Make one shard of tokens: the same utterances, seconds and skips; durations where the units have them."""
    source, unigram = open_shard(task.source), load_unigram(task.unigram)
    skips = [Skip(row["id"], row["reason"], row["detail"]) for row in source.skips()]
    write_shard(task.folder, _token_samples(source, unigram), skips, task.preprocessing)


def _token_samples(source: Shard, unigram: Unigram) -> Iterator[Sample]:
    try:
        tokens = unigram.encode([units[:-1] for units in source.samples()])
    except UserError as error:
        raise UserError(f"{source.folder}: {error}") from error
    durations = source.sample_durations() or repeat(None)
    for row, some, frames in zip(source.rows(), tokens, durations, strict=False):
        yield Sample(
            id=row["id"],
            units=np.append(some, unigram.vocabulary).astype(np.int16),
            seconds=row.get("seconds"),
            row={key: value for key, value in row.items() if key != "seconds"},
            durations=None if frames is None else np.append(unigram.frames(some, frames[:-1]), 0),
        )


def _shards_of_units(folder: Path) -> list[Shard]:
    shards = open_shards(folder)
    if "unigram" in shards[0].preprocessing:
        raise UserError(f"{folder}: holds unigram tokens already; give the shards of units.")
    return shards
