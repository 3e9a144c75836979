"""The corpora of a study: nothing of the benchmarks or the test is ever said in training, and every label is there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.records.manifest import read_manifest
from speechscale.records.seal import verify
from speechscale.speech.storyworld import corpus as corpus_room
from speechscale.speech.storyworld.corpus import (
    STORY_CORPUS_SCHEMA,
    Corpus,
    WorldSpec,
    check_apart,
    check_world_voices,
    generate_story_corpus,
    write_story_corpus,
)

SPEC = WorldSpec(
    prose=2000,
    stories=600,
    test=200,
    items=500,
    items_per_phenomenon=60,
    voices=("en-us", "en-us+m3"),
    voices_unseen=("en-us+f2",),
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate_story_corpus(SPEC)


def test_counts(corpus: Corpus) -> None:
    assert Counter(u.dataset for u in corpus.train) == {"prose": 2000, "stories": 600}
    assert {u.dataset for u in corpus.test} == {"prose"} and len(corpus.test) == 200
    items = Counter((u.extra["task"], u.extra["condition"], u.extra["correct"]) for u in corpus.benchmarks)
    for task in ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze"):
        for condition in ("seen", "unseen"):
            right, wrong = items[task, condition, True], items[task, condition, False]
            assert right == wrong >= 500


def test_no_item_occurs_in_training_by_plain_search(corpus: Corpus) -> None:
    """Independent of the generator: whole members are looked for as text, on sentence borders."""
    said = "\n" + "\n".join(u.transcript or "" for u in corpus.train) + "\n"
    heard = said.replace(". ", ".\n")
    for u in corpus.benchmarks:
        assert u.synthesis
        if u.synthesis.phonemes:
            continue
        text = u.transcript or ""
        if text.count(".") == 1:
            assert f"\n{text}\n" not in heard, u.id
        else:
            assert text not in said, u.id
    texts = {u.transcript for u in corpus.train}
    assert texts.isdisjoint(u.transcript for u in corpus.test)


def test_voices_of_the_unseen_condition_are_never_heard_in_training(corpus: Corpus) -> None:
    assert {u.speaker for u in corpus.train} == {"en-us", "en-us+m3"}
    by_condition = {
        c: {u.speaker for u in corpus.benchmarks if u.extra["condition"] == c} for c in ("seen", "unseen")
    }
    assert by_condition == {"seen": {"en-us", "en-us+m3"}, "unseen": {"en-us+f2"}}


def test_both_members_of_an_item_have_one_voice(corpus: Corpus) -> None:
    voices: dict[str, set[str | None]] = {}
    for u in corpus.benchmarks:
        voices.setdefault(u.id.rsplit("/", 1)[0], set()).add(u.speaker)
    assert all(len(found) == 1 for found in voices.values())


def test_same_seed_same_corpus_and_seeds_differ(corpus: Corpus) -> None:
    assert generate_story_corpus(SPEC) == corpus
    other = generate_story_corpus(SPEC.model_copy(update={"seed": 1}))
    assert [u.transcript for u in other.train[:20]] != [u.transcript for u in corpus.train[:20]]


def test_a_leak_is_caught_by_name() -> None:
    item = Item(
        task="minimal_pairs", id="a", phenomenon="g", correct="The dog sleeps.", wrong="The dog sleep."
    )
    with pytest.raises(UserError, match="benchmark item occurs"):
        check_apart([["A cat smiles.", "The dog sleep."]], [item], [])
    with pytest.raises(UserError, match="test utterance occurs"):
        check_apart([["A.", "B."]], [item], [["A.", "B."]])
    check_apart([["A cat smiles."]], [item], [["A.", "B."]])


def test_one_voice_on_both_lists_is_refused() -> None:
    with pytest.raises(ValidationError, match="en-us stands in voices and in voices_unseen"):
        WorldSpec.model_validate(SPEC.model_dump() | {"voices_unseen": ("en-us",)})


def test_unknown_world_and_unknown_voice_are_named() -> None:
    with pytest.raises(ValidationError, match="choose one of large, small"):
        WorldSpec.model_validate(SPEC.model_dump() | {"size": "medium"})
    with pytest.raises(UserError, match="'en-uss' cannot speak"):
        check_world_voices(SPEC.model_copy(update={"voices": ("en-us", "en-uss")}))


def test_no_text_twice_in_training(corpus: Corpus) -> None:
    """So that unique tokens are unique."""
    assert len({u.transcript for u in corpus.train}) == len(corpus.train)


def test_a_world_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_room, "_TRIES", 1)  # so that drawing one text twice is enough
    with pytest.raises(UserError, match=r"world\.stories: .* ask for fewer"):
        generate_story_corpus(
            SPEC.model_copy(update={"prose": 10, "test": 5, "stories": 3000, "items_per_phenomenon": 2})
        )


def test_sealed_folder(tmp_path: Path) -> None:
    small = SPEC.model_copy(
        update={"prose": 50, "stories": 20, "test": 10, "items": 20, "items_per_phenomenon": 2}
    )
    write_story_corpus(small, tmp_path / "corpus")
    verify(tmp_path / "corpus", STORY_CORPUS_SCHEMA)
    assert len(list(read_manifest(tmp_path / "corpus" / "train.jsonl"))) == 70
