"""The training and test texts and the benchmark items of a study of the story world, as manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from speechscale.errors import UserError
from speechscale.records.items import Item, Label
from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.records.seal import sealed_folder, write_json
from speechscale.speech.storyworld import items
from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import StoryWorld
from speechscale.speech.synthesis import engines
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine

STORY_CORPUS_SCHEMA = "speechscale.corpus/2"
TRAIN, TEST, BENCHMARKS = "train.jsonl", "test.jsonl", "benchmarks.jsonl"
CONDITIONS = ("seen", "unseen")
_MAX_DRAWS_PER_TEXT = 20  # before the world counts as too small

Sentences = list[str]  # of one text


class WorldSpec(BaseModel):
    """The table `[world]` of a study: a story world, the amounts of text drawn from it, and the voices."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: str = "small"
    seed: int = Field(default=0, ge=0)
    prose: int = Field(ge=1)  # training utterances of one to three sentences
    stories: int = Field(ge=0)  # training utterances of one story
    test: int = Field(ge=1)  # utterances of held-out prose
    items: int = Field(default=500, ge=1)  # of each task
    items_per_phenomenon: int = Field(default=100, ge=1)  # minimal pairs
    voices: tuple[str, ...] = Field(min_length=1, strict=False)  # of training
    voices_unseen: tuple[str, ...] = Field(min_length=1, strict=False)  # never in training
    words_per_minute: int = Field(default=260, ge=80, le=450)

    @field_validator("size")
    @classmethod
    def _world_exists(cls, size: str) -> str:
        load_lexicon(size)
        return size

    @model_validator(mode="after")
    def _voices_are_disjoint(self) -> WorldSpec:
        shared = set(self.voices) & set(self.voices_unseen)
        if shared:
            raise ValueError(
                f"{', '.join(sorted(shared))} is in voices and in voices_unseen; a voice must be in one of them only"
            )
        return self


@dataclass(frozen=True)
class StoryCorpus:
    """The utterances of a study, and the number of word types in training."""

    train: list[Utterance]
    test: list[Utterance]
    benchmarks: list[Utterance]
    word_types: int


class CorpusCounts(TypedDict):
    """The content of `facts.json`, which the report shows."""

    word_types: int
    utterances: dict[str, int]  # by kind of text
    items: dict[str, int]  # by task
    voices_train: list[str]
    voices_unseen: list[str]


def write_story_corpus(spec: WorldSpec, folder: Path) -> None:
    """Write the manifests of `generate_story_corpus` as one sealed folder.

    Raises:
        UserError: as `generate_story_corpus`.
    """
    corpus = generate_story_corpus(spec)
    seal_spec = spec.model_dump(mode="json")
    with sealed_folder(
        folder, schema=STORY_CORPUS_SCHEMA, stage="story corpus", spec=seal_spec, parents={}
    ) as staging:
        write_manifest(corpus.train, staging / TRAIN)
        write_manifest(corpus.test, staging / TEST)
        write_manifest(corpus.benchmarks, staging / BENCHMARKS)
        write_json(staging / "facts.json", corpus_counts(corpus))


def corpus_counts(corpus: StoryCorpus) -> CorpusCounts:
    """Counts and voices of a corpus."""
    return {
        "word_types": corpus.word_types,
        "utterances": dict(Counter(u.dataset for u in corpus.train)) | {"test": len(corpus.test)},
        "items": dict(Counter(u.extra["task"] for u in corpus.benchmarks if u.extra["correct"])),
        "voices_train": sorted({u.speaker or "" for u in corpus.train}),
        "voices_unseen": sorted(
            {u.speaker or "" for u in corpus.benchmarks if u.extra["condition"] == "unseen"}
        ),
    }


def generate_story_corpus(spec: WorldSpec) -> StoryCorpus:
    """Training texts, test texts and benchmark items. No text of test or benchmarks occurs in training.

    Benchmarks and test are drawn first. Training rejects their texts, and its own repetitions. `check_leakage`
    verifies the result.

    Raises:
        UserError: the world is too small for the amounts in `spec`.
    """
    world = StoryWorld(load_lexicon(spec.size))
    sentence_items = list(items.minimal_pairs(world, spec.items_per_phenomenon, spec.seed))
    sentence_items += items.sstorycloze(world, spec.items, spec.seed)
    sentence_items += items.tstorycloze(world, spec.items, spec.seed)
    held_out = items.held_out_texts(sentence_items)
    test = _draw_distinct("test", _prose(world, Random(f"{spec.seed}/test")), spec.test, held_out)
    held_out |= {" ".join(sentences) for sentences in test}
    prose = _draw_distinct("prose", _prose(world, Random(f"{spec.seed}/prose")), spec.prose, held_out)
    stories = _draw_distinct(
        "stories", _stories(world, Random(f"{spec.seed}/stories")), spec.stories, held_out
    )
    check_leakage([*prose, *stories], sentence_items, test)
    words = {word for text in [*prose, *stories] for sentence in text for word in split_words(sentence)}
    all_items = [*_lexical_items(spec, words), *sentence_items]
    train = [("prose", text) for text in prose] + [("stories", text) for text in stories]
    # Shuffled once, so that any contiguous part of the corpus has the same share of both kinds.
    Random(f"{spec.seed}/order").shuffle(train)
    return StoryCorpus(
        train=[_text_utterance(spec, kind, "train", i, text) for i, (kind, text) in enumerate(train)],
        test=[_text_utterance(spec, "prose", "test", i, text) for i, text in enumerate(test)],
        benchmarks=[
            utterance
            for item in all_items
            for condition in CONDITIONS
            for utterance in _item_utterances(spec, item, condition)
        ],
        word_types=len(words),
    )


def check_world_voices(spec: WorldSpec) -> None:
    """Synthesise one word with every voice.

    Raises:
        UserError: the synthesiser lacks a voice, which the sentence names.
    """
    voices = (*spec.voices, *spec.voices_unseen)
    engines.check_voices([_synthesis(spec, voice) for voice in voices], "world.voices")


def check_leakage(train: list[Sentences], benchmark_items: list[Item], test: list[Sentences]) -> None:
    """Verify that no run of sentences in training is a member of an item, and no training text a test text.

    Args:
        train: the sentences of each training text.
        benchmark_items: all items.
        test: the sentences of each test text.

    Raises:
        UserError: naming the first text that leaks.
    """
    item_texts = items.held_out_texts(benchmark_items)
    test_texts = {" ".join(sentences) for sentences in test}
    for sentences in train:
        text = " ".join(sentences)
        if items.contains_held_out(sentences, item_texts):
            raise UserError(f"a benchmark item occurs in the training text {text!r}")
        if text in test_texts:
            raise UserError(f"a test utterance occurs in training: {text!r}")


def split_words(sentence: str) -> list[str]:
    """The words of a sentence in lower case."""
    return sentence.lower().rstrip(".").split()


def _draw_distinct(key: str, texts: Iterator[Sentences], count: int, held_out: set[str]) -> list[Sentences]:
    """The first `count` different texts that contain nothing that is held out."""
    drawn: dict[str, Sentences] = {}
    for text in islice(texts, _MAX_DRAWS_PER_TEXT * count):
        if not items.contains_held_out(text, held_out):
            drawn.setdefault(" ".join(text), text)
        if len(drawn) == count:
            return list(drawn.values())
    raise UserError(f"world.{key}: this world has too few different texts for {count}; ask for fewer.")


def _prose(world: StoryWorld, rng: Random) -> Iterator[Sentences]:
    while True:
        yield world.prose(rng)


def _stories(world: StoryWorld, rng: Random) -> Iterator[Sentences]:
    while True:
        yield list(world.story(rng).sentences)


def _lexical_items(spec: WorldSpec, words: set[str]) -> list[Item]:
    voice = spec.voices[0]
    with EspeakEngine() as espeak:
        pronunciations = {word: espeak.phonemize(word, voice) for word in sorted(words)}
    return list(items.lexical(pronunciations, spec.items, spec.seed))


def _text_utterance(spec: WorldSpec, kind: str, split: str, index: int, sentences: Sentences) -> Utterance:
    name = f"{split}/{kind}/{index:06d}"
    voice = _draw_voice(spec, name, spec.voices)
    return Utterance(
        id=name,
        dataset=kind,
        split=split,
        transcript=" ".join(sentences),
        speaker=voice,
        synthesis=_synthesis(spec, voice),
    )


def _item_utterances(spec: WorldSpec, item: Item, condition: str) -> Iterator[Utterance]:
    """Both members of an item. They share one voice, so that the voice does not distinguish them."""
    name = f"{item.task}/{item.id}/{condition}"
    voice = _draw_voice(spec, name, spec.voices if condition == "seen" else spec.voices_unseen)
    for member, text in (("correct", item.correct), ("wrong", item.wrong)):
        label = Label(
            task=item.task,
            group_id=item.id,
            pair_id=f"{item.id}/{condition}",
            voice=voice,
            phenomenon=item.phenomenon,
            condition=condition,
            contrast=item.contrast,
            template=item.template,
            correct=member == "correct",
        )
        yield Utterance(
            id=f"{name}/{member}",
            dataset="benchmarks",
            split="benchmarks",
            transcript=text,
            speaker=voice,
            synthesis=_synthesis(spec, voice, phonemes=item.phonemes),
            extra=label.model_dump(exclude_none=True),
        )


def _draw_voice(spec: WorldSpec, name: str, voices: tuple[str, ...]) -> str:
    return Random(f"{spec.seed}/{name}").choice(voices)


def _synthesis(spec: WorldSpec, voice: str, *, phonemes: bool = False) -> Synthesis:
    return Synthesis(
        engine=ESPEAK,
        voice=voice,
        words_per_minute=spec.words_per_minute,
        seed=spec.seed,
        phonemes=phonemes,
    )
