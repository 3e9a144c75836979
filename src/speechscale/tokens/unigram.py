"""Unigram tokenization of units with SentencePiece: training, encoding and decoding without loss, token shards.

Each unit is written as one character, and an utterance as one string without spaces. SentencePiece estimates the
pieces (Kudo 2018) and finds the likeliest segmentation. Its seed pieces are counted here, because its own count
(version 0.2.3) works on bytes and misses most sequences of three-byte characters: of 380,000 candidates in a test it
kept 12,000, and tokens held 1.7 units instead of 2.2.
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

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from speechscale.errors import UserError
from speechscale.records.json_objects import JsonObject
from speechscale.records.revisions import revisions_of
from speechscale.records.seal import (
    differing_fields,
    is_up_to_date,
    read_seal,
    sealed_folder,
    sha256_file,
    verify,
)
from speechscale.records.shards import (
    LARGEST_VOCABULARY,
    Sample,
    Shard,
    encoding_of,
    open_shard,
    open_shards,
    shards_identity,
    vocabulary_of,
    write_shard,
)
from speechscale.tokens.derived import copied_row, derived_preprocessing

SCHEMA = "speechscale.unigram/1"
MODEL = "unigram.model"  # SentencePiece's own format
# Unit u is the character _FIRST_CHARACTER + u: up to 0xD7FF are 35,328 characters, without spaces and surrogates.
_FIRST_CHARACTER = 0x4E00
# Units; training splits longer utterances, because likelihoods of very long ones lose digits.
_MAX_SENTENCE = 1000
_MAX_SEED_PIECES = 1_000_000  # candidates that training starts from: SentencePiece's default
_NUM_RESERVED = 1  # SentencePiece reserves its id 0 for unknown characters, of which there are none


class UnigramSpec(BaseModel):
    """Options of training: size of the vocabulary and of the sample."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    vocabulary: int = Field(default=5000, ge=2, le=LARGEST_VOCABULARY - 2)  # without EOS and PAD
    units: int = Field(default=4_000_000, ge=1)  # at least so many in the seeded sample of utterances
    longest: int = Field(default=16, ge=2, le=256)  # maximum units in a token
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class UnigramTrainingTask:
    """Everything a worker needs to train a tokenizer.

    Attributes:
        shards: folder of the shards of units to train on.
        spec: options of training.
        folder: where the model is written.
    """

    shards: Path
    spec: UnigramSpec
    folder: Path

    def provenance(self) -> tuple[JsonObject, dict[str, str]]:
        """Spec and parents, as the seal of the model records them."""
        shards = _open_unit_shards(self.shards)
        spec = {**self.spec.model_dump(), "encoding": encoding_of(shards[0])}
        return spec, {"shards": shards_identity(shards)}


def is_trained(task: UnigramTrainingTask) -> bool:
    """Whether the model exists already.

    Raises:
        UserError: it exists, but was made from something else.
    """
    spec, parents = task.provenance()
    return is_up_to_date(task.folder, schema=SCHEMA, stage="unigram", spec=spec, parents=parents)


def train_unigram_task(task: UnigramTrainingTask) -> int:
    """Train a tokenizer on a sample of the shards' utterances; returns the number of units in the sample.

    Raises:
        UserError: the vocabulary is larger than the sample allows, or smaller than the number of units.
    """
    shards = _open_unit_shards(task.shards)
    clusters = shards[0].eos
    sample = sample_utterances(shards, task.spec.units, task.spec.seed)
    model = train_unigram(sample, clusters, task.spec)
    spec, parents = task.provenance()
    with sealed_folder(task.folder, schema=SCHEMA, stage="unigram", spec=spec, parents=parents) as staging:
        (staging / MODEL).write_bytes(model)
    return sum(map(len, sample))


def sample_utterances(shards: Sequence[Shard], units: int, seed: int) -> list[np.ndarray]:
    """Utterances in seeded order, until they hold `units` units; all of them when there are fewer.

    Returns:
        The units of each utterance without EOS, int16 [units of the utterance].
    """
    lengths = np.concatenate([shard.lengths for shard in shards])
    order = np.random.default_rng(seed).permutation(len(lengths))
    count = int(np.searchsorted(np.cumsum(lengths[order] - 1), units)) + 1
    first_index = np.cumsum([0, *(len(shard.lengths) for shard in shards)])  # of each shard's utterances
    starts = [np.cumsum(shard.lengths) - shard.lengths for shard in shards]
    sample = []
    for index in order[:count].tolist():
        number = int(np.searchsorted(first_index, index, side="right")) - 1
        start = starts[number][index - first_index[number]]
        sample.append(np.asarray(shards[number].units[start : start + lengths[index] - 1]))
    return sample


def train_unigram(utterances: Sequence[np.ndarray], clusters: int, spec: UnigramSpec) -> bytes:
    """Train a SentencePiece model of `spec.vocabulary` pieces, of which every unit 0 … clusters - 1 is one.

    The result is deterministic: training uses one thread and draws no random numbers.

    Raises:
        UserError: the vocabulary is larger than the sample allows, or smaller than the number of units.
    """
    if spec.vocabulary < clusters:
        raise UserError(
            f"a vocabulary of {spec.vocabulary} tokens is smaller than the {clusters} units, each of which is a "
            "token of its own; ask for more."
        )
    absent = np.setdiff1d(np.arange(clusters), np.concatenate([*utterances, np.empty(0, dtype=np.int64)]))
    sentences = [
        utterance[start : start + _MAX_SENTENCE]
        for utterance in (*utterances, absent)  # with the units that do not occur, so that none is unknown
        for start in range(0, len(utterance), _MAX_SENTENCE)
    ]
    try:
        return _run_sentencepiece(sentences, spec)
    except RuntimeError as error:
        limit = re.search(r"<= (\d+)", str(error))
        reason = f"it allows at most {int(limit[1]) - _NUM_RESERVED}" if limit else f"{error}"
        raise UserError(
            f"the sample of speech is too small for {spec.vocabulary} tokens ({reason}); ask for a smaller "
            "vocabulary, or train on more speech."
        ) from error


def _run_sentencepiece(sentences: Sequence[np.ndarray], spec: UnigramSpec) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    # The model records the name of the file of seed pieces: relative, so that it contains no path.
    with TemporaryDirectory() as folder, chdir(folder):
        Path("seeds.tsv").write_text("".join(_seed_lines(sentences, spec.longest)), encoding="utf-8")
        SentencePieceTrainer.train(
            sentence_iterator=(_to_text(sentence) for sentence in sentences),
            model_writer=model,
            model_type="unigram",
            vocab_size=spec.vocabulary + _NUM_RESERVED,
            seed_sentencepieces_file="seeds.tsv",
            max_sentencepiece_length=spec.longest,
            character_coverage=1.0,  # every unit is a token
            max_sentence_length=4 * _MAX_SENTENCE,  # bytes; SentencePiece drops longer sentences
            input_sentence_size=0,  # no subsampling
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
    return model.getvalue()


def _to_text(units: np.ndarray) -> str:
    return (units.astype("<u4") + _FIRST_CHARACTER).tobytes().decode("utf-32-le")


def _seed_lines(sentences: Sequence[np.ndarray], longest: int) -> Iterator[str]:
    """`piece<TAB>count` of the candidates with the largest count x length, the ranking of SentencePiece."""
    stream = np.concatenate([np.append(sentence, -1) for sentence in sentences]).astype(np.int64)
    candidates = list(repeated_sequences(stream, longest))
    if not candidates:
        return
    lengths, starts, counts = (np.concatenate(part) for part in zip(*candidates, strict=True))
    best = np.argsort(-lengths * counts, kind="stable")[:_MAX_SEED_PIECES]
    text = _to_text(np.maximum(stream, 0))
    for length, start, count in zip(
        *(part[best].tolist() for part in (lengths, starts, counts)), strict=True
    ):
        yield f"{text[start : start + length]}\t{count}\n"


def repeated_sequences(
    stream: np.ndarray, longest: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sequences of 2 … `longest` units that occur more than once, and not always followed by the same unit.

    These are the inner nodes of the suffix tree, the seed pieces of SentencePiece. No sequence contains the separator.

    Args:
        stream: units, with the separator -1 after every sentence; int64 [units].
        longest: maximum units in a sequence.

    Yields:
        For each length in turn, of all sequences of that length: the length, the start of one occurrence and the
        number of occurrences; int64 [sequences] each.
    """
    units = stream + 1  # the separator is 0
    base = int(units.max(initial=0)) + 1
    # Positions of all occurrences of sequences so far, and the number of the sequence that each belongs to.
    positions, sequence = np.flatnonzero(units), units[units > 0]
    counts = starts = np.empty(0, dtype=np.int64)
    for length in range(2, longest + 2):
        following = units[np.minimum(positions + length - 1, len(units) - 1)]
        extends = following > 0
        positions = positions[extends]
        extended = sequence[extends] * base + following[extends]
        found, first, sequence, occurrences = np.unique(
            extended, return_index=True, return_inverse=True, return_counts=True
        )
        if len(counts):
            largest_extension = np.zeros_like(counts)
            np.maximum.at(largest_extension, found // base, occurrences)
            inner = (counts > 1) & (counts > largest_extension)
            yield np.full(inner.sum(), length - 1), starts[inner], counts[inner]
        counts, starts = occurrences, positions[first]
        repeated = occurrences[sequence] > 1
        positions, sequence = positions[repeated], sequence[repeated]


class UnigramTokenizer:
    """Conversion of units to tokens 0 … vocabulary - 1 and back, without EOS.

    Attributes:
        vocabulary: number of tokens.
        lengths: units of each token, int64 [vocabulary].
    """

    def __init__(self, model: bytes) -> None:
        """Load a serialized SentencePiece model, as `train_unigram` returns it."""
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(_NUM_RESERVED, len(self._processor))]
        self.vocabulary = len(pieces)
        self.lengths = np.array([len(piece) for piece in pieces])
        self._starts = np.cumsum(self.lengths) - self.lengths
        characters = np.frombuffer("".join(pieces).encode("utf-32-le"), dtype="<u4")
        self._units: np.ndarray = (characters - _FIRST_CHARACTER).astype(np.int16)

    def encode(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The likeliest tokens of each utterance (units without EOS); int16 [tokens] each.

        Raises:
            UserError: a unit outside the model's vocabulary.
        """
        if not utterances:
            return []
        units = np.concatenate(utterances)
        ends = np.cumsum([len(utterance) for utterance in utterances]).tolist()
        text = _to_text(units)
        texts = [text[start:end] for start, end in pairwise([0, *ends])]
        encoded = self._processor.encode(texts, out_type="numpy", num_threads=1)
        tokens = np.concatenate(encoded) - _NUM_RESERVED
        if len(tokens) and tokens.min() < 0:
            raise UserError(
                f"units up to {units.max()} are outside the vocabulary that the tokenizer was trained on."
            )
        return np.split(tokens.astype(np.int16), np.cumsum([len(each) for each in encoded])[:-1])

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The units of tokens; int16 [units]."""
        lengths = self.lengths[tokens]
        ends = np.cumsum(lengths)
        offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        units: np.ndarray = self._units[np.repeat(self._starts[tokens], lengths) + offsets]
        return units

    def token_durations(self, tokens: np.ndarray, durations: np.ndarray) -> np.ndarray:
        """Frames of each token, as the sum of the durations (frames) of its units; int32 [tokens]."""
        lengths = self.lengths[tokens]
        starts = np.cumsum(lengths) - lengths
        return np.add.reduceat(durations, starts).astype(np.int32) if len(tokens) else durations[:0]


def load_unigram(folder: Path) -> UnigramTokenizer:
    """Load the tokenizer from a folder that `train_unigram_task` sealed.

    Raises:
        UserError: no such model, or it has changed since it was sealed.
    """
    verify(folder, SCHEMA)
    return UnigramTokenizer((folder / MODEL).read_bytes())


@dataclass(frozen=True)
class TokenShardTask:
    """Everything a worker needs to write one shard of tokens.

    Attributes:
        folder: the shard to write.
        source: the shard of units.
        unigram: folder of the tokenizer.
        preprocessing: the field of that name in the shard's metadata.
    """

    folder: Path
    source: Path
    unigram: Path
    preprocessing: JsonObject


def plan_token_shards(shards: Path, unigram: Path, out: Path) -> list[TokenShardTask]:
    """The tasks that write one shard of tokens to `out` for each shard of units.

    Raises:
        UserError: no tokenizer there, or it was trained on units of another encoding.
    """
    sources = _open_unit_shards(shards)
    spec = read_seal(unigram, SCHEMA).spec
    differing = differing_fields(encoding_of(sources[0]), spec["encoding"])
    if differing:
        raise UserError(
            f"{shards}: encoded otherwise than the units that {unigram} was trained on: {'; '.join(differing)}."
        )
    vocabulary = spec["vocabulary"]
    identity = {"name": MODEL, "sha256": sha256_file(unigram / MODEL), "vocabulary": vocabulary}
    revisions = revisions_of("unigram tokens")
    changes = {**vocabulary_of(vocabulary), "unigram": identity, "revisions": revisions}
    return [
        TokenShardTask(
            folder=out / source.folder.name,
            source=source.folder,
            unigram=unigram,
            preprocessing=derived_preprocessing(source, changes),
        )
        for source in sources
    ]


def write_token_shard(task: TokenShardTask) -> None:
    """Write one shard of tokens, with the utterances, seconds, durations and skips of the shard of units."""
    source, unigram = open_shard(task.source), load_unigram(task.unigram)
    write_shard(task.folder, _token_samples(source, unigram), source.skips(), task.preprocessing)


def _token_samples(source: Shard, unigram: UnigramTokenizer) -> Iterator[Sample]:
    try:
        encoded = unigram.encode([units[:-1] for units in source.samples()])
    except UserError as error:
        raise UserError(f"{source.folder}: {error}") from error
    durations = source.sample_durations() or repeat(None)
    for row, tokens, frames in zip(source.rows(), encoded, durations, strict=False):
        yield Sample(
            id=row["id"],
            units=np.append(tokens, unigram.vocabulary).astype(np.int16),
            seconds=row.get("seconds"),
            row=copied_row(row),
            durations=None if frames is None else np.append(unigram.token_durations(tokens, frames[:-1]), 0),
        )


def _open_unit_shards(folder: Path) -> list[Shard]:
    shards = open_shards(folder)
    if "unigram" in shards[0].preprocessing:
        raise UserError(f"{folder}: holds unigram tokens already; give the shards of units.")
    return shards
