"""The corpora and benchmarks of a study, as manifests: what is to be spoken, by whom, and what it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from speechscale.errors import UserError
from speechscale.records.items import Item, Label
from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.records.seal import sealed_folder, write_json
from speechscale.speech.storyworld import items as benchmarks
from speechscale.speech.storyworld.lexicon import load_lexicon
from speechscale.speech.storyworld.stories import World
from speechscale.speech.synthesis import engines
from speechscale.speech.synthesis.espeak import ESPEAK, Speaker

CORPUS_SCHEMA = "speechscale.corpus/2"
TRAIN, TEST, BENCHMARKS = "train.jsonl", "test.jsonl", "benchmarks.jsonl"
CONDITIONS = ("seen", "unseen")
_TRIES = 20  # texts drawn for each that is wanted, before the world is called too small


class WorldSpec(BaseModel):
    """A story world, how much of it is written, and who speaks it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: str = "small"
    seed: int = Field(default=0, ge=0)
    prose: int = Field(ge=1)  # training utterances of one to three sentences
    stories: int = Field(ge=0)  # training utterances of one story
    test: int = Field(ge=1)  # utterances of held-out prose
    items: int = Field(default=500, ge=1)  # of each task
    items_per_phenomenon: int = Field(default=100, ge=1)  # minimal pairs
    voices: tuple[str, ...] = Field(min_length=1, strict=False)  # of training
    voices_unseen: tuple[str, ...] = Field(min_length=1, strict=False)  # never heard in training
    words_per_minute: int = Field(default=260, ge=80, le=450)

    @field_validator("size")
    @classmethod
    def _world_is_known(cls, size: str) -> str:
        load_lexicon(size)
        return size

    @model_validator(mode="after")
    def _voices_are_apart(self) -> WorldSpec:
        shared = set(self.voices) & set(self.voices_unseen)
        if shared:
            raise ValueError(
                f"{', '.join(sorted(shared))} stands in voices and in voices_unseen; keep them apart"
            )
        return self


@dataclass(frozen=True)
class Corpus:
    train: list[Utterance]
    test: list[Utterance]
    benchmarks: list[Utterance]
    word_types: int


def write_corpus(spec: WorldSpec, folder: Path) -> None:
    """Write the manifests of `make_corpus` as one sealed folder."""
    corpus = make_corpus(spec)
    with sealed_folder(
        folder, schema=CORPUS_SCHEMA, stage="story corpus", spec=spec.model_dump(mode="json"), parents={}
    ) as aside:
        write_manifest(corpus.train, aside / TRAIN)
        write_manifest(corpus.test, aside / TEST)
        write_manifest(corpus.benchmarks, aside / BENCHMARKS)
        write_json(aside / "facts.json", facts(corpus))


def facts(corpus: Corpus) -> dict[str, Any]:
    """Counts for the report."""
    return {
        "word_types": corpus.word_types,
        "utterances": dict(Counter(u.dataset for u in corpus.train)) | {"test": len(corpus.test)},
        "items": dict(Counter(u.extra["task"] for u in corpus.benchmarks if u.extra["correct"])),
        "voices_train": sorted({u.speaker or "" for u in corpus.train}),
        "voices_unseen": sorted(
            {u.speaker or "" for u in corpus.benchmarks if u.extra["condition"] == "unseen"}
        ),
    }


def make_corpus(spec: WorldSpec) -> Corpus:
    """Training and test texts and benchmark items; nothing of test or benchmarks occurs in training.

    Benchmarks and test are made first; training rejects what they say, and says nothing twice. `check_apart` then
    verifies the result.

    Raises:
        UserError: the world is too small for what is asked of it.
    """
    world = World(load_lexicon(spec.size))
    spoken = list(benchmarks.minimal_pairs(world, spec.items_per_phenomenon, spec.seed))
    spoken += benchmarks.sstorycloze(world, spec.items, spec.seed)
    spoken += benchmarks.tstorycloze(world, spec.items, spec.seed)
    held_out = benchmarks.forbidden(spoken)
    test = _distinct("test", _prose(world, Random(f"{spec.seed}/test")), spec.test, held_out)
    held_out |= {" ".join(sentences) for sentences in test}
    prose = _distinct("prose", _prose(world, Random(f"{spec.seed}/prose")), spec.prose, held_out)
    stories = _distinct("stories", _stories(world, Random(f"{spec.seed}/stories")), spec.stories, held_out)
    check_apart([*prose, *stories], spoken, test)
    words = {word for text in [*prose, *stories] for sentence in text for word in words_of(sentence)}
    items = [*_lexical(spec, words), *spoken]
    train = [("prose", text) for text in prose] + [("stories", text) for text in stories]
    # Mixed once, so that any stretch of the corpus is a fair sample of both kinds.
    Random(f"{spec.seed}/order").shuffle(train)
    return Corpus(
        train=[_text(spec, kind, "train", i, text) for i, (kind, text) in enumerate(train)],
        test=[_text(spec, "prose", "test", i, text) for i, text in enumerate(test)],
        benchmarks=[u for item in items for condition in CONDITIONS for u in _members(spec, item, condition)],
        word_types=len(words),
    )


def check_voices(spec: WorldSpec) -> None:
    """Let every voice say a word.

    Raises:
        UserError: naming a voice that the synthesiser does not have.
    """
    engines.check_voices([_how(spec, voice) for voice in (*spec.voices, *spec.voices_unseen)], "world.voices")


def check_apart(train: list[list[str]], items: list[Item], test: list[list[str]]) -> None:
    """Verify that no run of sentences in training is a member of an item, and no training utterance one of the test.

    Raises:
        UserError: naming the first that is.
    """
    spoken = benchmarks.forbidden(items)
    held_out = {" ".join(sentences) for sentences in test}
    for sentences in train:
        text = " ".join(sentences)
        if benchmarks.leaks(sentences, spoken):
            raise UserError(f"a benchmark item occurs in the training text {text!r}")
        if text in held_out:
            raise UserError(f"a test utterance occurs in training: {text!r}")


def words_of(sentence: str) -> list[str]:
    return sentence.lower().rstrip(".").split()


def _distinct(key: str, texts: Iterator[list[str]], count: int, held_out: set[str]) -> list[list[str]]:
    """The first `count` texts that differ from each other and hold nothing that is held out."""
    found: dict[str, list[str]] = {}
    for text in islice(texts, _TRIES * count):
        if not benchmarks.leaks(text, held_out):
            found.setdefault(" ".join(text), text)
        if len(found) == count:
            return list(found.values())
    raise UserError(f"world.{key}: this world has too few different texts for {count}; ask for fewer.")


def _prose(world: World, rng: Random) -> Iterator[list[str]]:
    while True:
        yield world.prose(rng)


def _stories(world: World, rng: Random) -> Iterator[list[str]]:
    while True:
        yield list(world.story(rng).sentences)


def _lexical(spec: WorldSpec, words: set[str]) -> list[Item]:
    voice = spec.voices[0]
    with Speaker() as speaker:
        pronunciations = {word: speaker.phonemes(word, voice) for word in sorted(words)}
    return list(benchmarks.lexical(pronunciations, spec.items, spec.seed))


def _text(spec: WorldSpec, kind: str, split: str, index: int, sentences: list[str]) -> Utterance:
    name = f"{split}/{kind}/{index:06d}"
    return _utterance(spec, name, kind, split, " ".join(sentences), _voice(spec, name, spec.voices))


def _members(spec: WorldSpec, item: Item, condition: str) -> Iterator[Utterance]:
    """Both members of an item by one voice, which must not tell them apart."""
    name = f"{item.task}/{item.id}/{condition}"
    voice = _voice(spec, name, spec.voices if condition == "seen" else spec.voices_unseen)
    for member, text in (("correct", item.correct), ("wrong", item.wrong)):
        label = Label(
            task=item.task,
            group_id=item.id,
            pair_id=f"{item.id}/{condition}",
            voice=voice,
            phenomenon=item.phenomenon,
            condition=condition,
            correct=member == "correct",
        )
        utterance = _utterance(spec, f"{name}/{member}", "benchmarks", "benchmarks", text, voice)
        how = utterance.synthesis and utterance.synthesis.model_copy(update={"phonemes": item.phonemes})
        yield utterance.model_copy(update={"extra": label.model_dump(exclude_none=True), "synthesis": how})


def _voice(spec: WorldSpec, name: str, voices: tuple[str, ...]) -> str:
    return Random(f"{spec.seed}/{name}").choice(voices)


def _utterance(spec: WorldSpec, name: str, dataset: str, split: str, text: str, voice: str) -> Utterance:
    how = _how(spec, voice)
    return Utterance(id=name, dataset=dataset, split=split, transcript=text, speaker=voice, synthesis=how)


def _how(spec: WorldSpec, voice: str) -> Synthesis:
    return Synthesis(engine=ESPEAK, voice=voice, words_per_minute=spec.words_per_minute, seed=spec.seed)
