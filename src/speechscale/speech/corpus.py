"""The corpora and benchmarks of a study, as manifests: what is to be spoken, by whom, and what it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from speechscale.errors import UserError
from speechscale.records.items import Item, Label
from speechscale.records.manifest import Synthesis, Utterance, write_manifest
from speechscale.records.seal import sealed_folder, write_json
from speechscale.speech import benchmarks
from speechscale.speech.lexicon import load_lexicon
from speechscale.speech.stories import World
from speechscale.speech.synthesis import ESPEAK, Speaker

CORPUS_SCHEMA = "speechscale.corpus/1"
TRAIN, TEST, BENCHMARKS = "train.jsonl", "test.jsonl", "benchmarks.jsonl"
CONDITIONS = ("seen", "unseen")


class WorldSpec(BaseModel):
    """A story world, how much of it is written, and who speaks it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: str = "small"
    seed: int = Field(default=0, ge=0)
    prose: int = Field(ge=1)  # training utterances of one to three sentences
    stories: int = Field(ge=0)  # training utterances of one story
    test: int = Field(ge=1)  # utterances of held-out prose
    items: int = Field(default=500, ge=1)  # of each task
    items_per_phenomenon: int = Field(default=100, ge=1)  # minimal pairs
    voices: tuple[str, ...] = Field(min_length=1)  # of training
    voices_unseen: tuple[str, ...] = Field(min_length=1)  # never heard in training
    words_per_minute: int = Field(default=260, ge=80, le=450)


@dataclass(frozen=True)
class Corpus:
    train: list[Utterance]
    test: list[Utterance]
    benchmarks: list[Utterance]
    word_types: int


def write_corpus(spec: WorldSpec, folder: Path) -> None:
    """Write the manifests of `make_corpus` as one sealed folder."""
    corpus = make_corpus(spec)
    with sealed_folder(folder, schema=CORPUS_SCHEMA, spec=spec.model_dump(mode="json"), parents={}) as aside:
        write_manifest(corpus.train, aside / TRAIN)
        write_manifest(corpus.test, aside / TEST)
        write_manifest(corpus.benchmarks, aside / BENCHMARKS)
        write_json(aside / "facts.json", facts(corpus))


def facts(corpus: Corpus) -> dict[str, Any]:
    """Counts for the report."""
    return {
        "word_types": corpus.word_types,
        "utterances": dict(Counter(u.dataset for u in corpus.train)) | {"test": len(corpus.test)},
        "items": dict(Counter(u.extra["task"] for u in corpus.benchmarks if u.extra["member"] == "correct")),
        "voices_train": sorted({u.speaker or "" for u in corpus.train}),
        "voices_unseen": sorted(
            {u.speaker or "" for u in corpus.benchmarks if u.extra["condition"] == "unseen"}
        ),
    }


def make_corpus(spec: WorldSpec) -> Corpus:
    """Training and test texts and benchmark items; nothing of test or benchmarks occurs in training.

    Benchmarks and test are made first; training rejects what they say. `check_apart` then verifies the result.

    Raises:
        UserError: a voice stands on both lists.
    """
    shared = set(spec.voices) & set(spec.voices_unseen)
    if shared:
        raise UserError(
            f"voices_unseen: {', '.join(sorted(shared))} also stands in voices; the two must not overlap."
        )
    world = World(load_lexicon(spec.size))
    spoken = list(benchmarks.minimal_pairs(world, spec.items_per_phenomenon, spec.seed))
    spoken += benchmarks.sstorycloze(world, spec.items, spec.seed)
    spoken += benchmarks.tstorycloze(world, spec.items, spec.seed)
    held_out = benchmarks.forbidden(spoken)
    test = list(_distinct_prose(world, Random(f"{spec.seed}/test"), spec.test, held_out))
    held_out |= {" ".join(sentences) for sentences in test}
    prose = list(_prose(world, Random(f"{spec.seed}/prose"), spec.prose, held_out))
    stories = list(_stories(world, Random(f"{spec.seed}/stories"), spec.stories, held_out))
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


def _distinct_prose(world: World, rng: Random, count: int, held_out: set[str]) -> Iterator[list[str]]:
    seen: set[str] = set()
    for text in _prose(world, rng, 20 * count, held_out):
        if " ".join(text) not in seen:
            seen.add(" ".join(text))
            yield text
        if len(seen) == count:
            return
    raise UserError(
        f"world.test: this world is too small for {count} distinct test utterances; ask for fewer."
    )


def _prose(world: World, rng: Random, count: int, held_out: set[str]) -> Iterator[list[str]]:
    texts = iter(lambda: world.prose(rng), None)
    return islice((text for text in texts if not benchmarks.leaks(text, held_out)), count)


def _stories(world: World, rng: Random, count: int, held_out: set[str]) -> Iterator[list[str]]:
    texts = iter(lambda: list(world.story(rng).sentences), None)
    return islice((text for text in texts if not benchmarks.leaks(text, held_out)), count)


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
        label = Label(task=item.task, item=item.id, group=item.group, condition=condition, member=member)
        utterance = _utterance(spec, f"{name}/{member}", "benchmarks", "benchmarks", text, voice)
        how = utterance.synthesis and utterance.synthesis.model_copy(update={"phonemes": item.phonemes})
        yield utterance.model_copy(update={"extra": label.model_dump(), "synthesis": how})


def _voice(spec: WorldSpec, name: str, voices: tuple[str, ...]) -> str:
    return Random(f"{spec.seed}/{name}").choice(voices)


def _utterance(spec: WorldSpec, name: str, dataset: str, split: str, text: str, voice: str) -> Utterance:
    how = Synthesis(engine=ESPEAK, voice=voice, words_per_minute=spec.words_per_minute, seed=spec.seed)
    return Utterance(id=name, dataset=dataset, split=split, transcript=text, speaker=voice, synthesis=how)
