"""The corpus of a study: no benchmark or test text occurs in training, and the labels are complete."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from speechscale.errors import UserError
from speechscale.records.items import Item
from speechscale.records.manifest import read_manifest
from speechscale.records.seal import verify
from speechscale.speech.storyworld import corpus as corpus_module
from speechscale.speech.storyworld.corpus import (
    STORY_CORPUS_SCHEMA,
    StoryCorpus,
    WorldSpec,
    check_leakage,
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
def corpus() -> StoryCorpus:
    return generate_story_corpus(SPEC)


def test_numbers_of_utterances_and_items(corpus: StoryCorpus) -> None:
    assert Counter(u.dataset for u in corpus.train) == {"prose": 2000, "stories": 600}
    assert {u.dataset for u in corpus.test} == {"prose"} and len(corpus.test) == 200
    items = Counter((u.extra["task"], u.extra["condition"], u.extra["correct"]) for u in corpus.benchmarks)
    for task in ("lexical", "minimal_pairs", "sstorycloze", "tstorycloze"):
        for condition in ("seen", "unseen"):
            correct, wrong = items[task, condition, True], items[task, condition, False]
            assert correct == wrong >= 500


def test_no_item_occurs_in_training(corpus: StoryCorpus) -> None:
    """Independent of the generator: members are searched as text, at sentence boundaries."""
    texts_by_line = "\n" + "\n".join(u.transcript or "" for u in corpus.train) + "\n"
    sentences_by_line = texts_by_line.replace(". ", ".\n")
    for u in corpus.benchmarks:
        assert u.synthesis
        if u.synthesis.phonemes:
            continue
        text = u.transcript or ""
        if text.count(".") == 1:
            assert f"\n{text}\n" not in sentences_by_line, u.id
        else:
            assert text not in texts_by_line, u.id
    train_texts = {u.transcript for u in corpus.train}
    assert train_texts.isdisjoint(u.transcript for u in corpus.test)


def test_unseen_voices_do_not_occur_in_training(corpus: StoryCorpus) -> None:
    assert {u.speaker for u in corpus.train} == {"en-us", "en-us+m3"}
    by_condition = {
        c: {u.speaker for u in corpus.benchmarks if u.extra["condition"] == c} for c in ("seen", "unseen")
    }
    assert by_condition == {"seen": {"en-us", "en-us+m3"}, "unseen": {"en-us+f2"}}


def test_members_of_an_item_share_a_voice(corpus: StoryCorpus) -> None:
    voices: dict[str, set[str | None]] = {}
    for u in corpus.benchmarks:
        voices.setdefault(u.id.rsplit("/", 1)[0], set()).add(u.speaker)
    assert all(len(found) == 1 for found in voices.values())


def test_corpus_depends_on_the_seed_only(corpus: StoryCorpus) -> None:
    assert generate_story_corpus(SPEC) == corpus
    other = generate_story_corpus(SPEC.model_copy(update={"seed": 1}))
    assert [u.transcript for u in other.train[:20]] != [u.transcript for u in corpus.train[:20]]


def test_leakage_is_refused_with_the_text() -> None:
    item = Item(
        task="minimal_pairs", id="a", phenomenon="g", correct="The dog sleeps.", wrong="The dog sleep."
    )
    with pytest.raises(UserError, match="benchmark item occurs"):
        check_leakage([["A cat smiles.", "The dog sleep."]], [item], [])
    with pytest.raises(UserError, match="test utterance occurs"):
        check_leakage([["A.", "B."]], [item], [["A.", "B."]])
    check_leakage([["A cat smiles."]], [item], [["A.", "B."]])


def test_voice_in_both_lists_is_refused() -> None:
    with pytest.raises(ValidationError, match="en-us is in voices and in voices_unseen"):
        WorldSpec.model_validate(SPEC.model_dump() | {"voices_unseen": ("en-us",)})


def test_unknown_world_and_unknown_voice_are_refused() -> None:
    with pytest.raises(ValidationError, match="choose one of large, small"):
        WorldSpec.model_validate(SPEC.model_dump() | {"size": "medium"})
    with pytest.raises(UserError, match="'en-uss' cannot speak"):
        check_world_voices(SPEC.model_copy(update={"voices": ("en-us", "en-uss")}))


def test_training_texts_are_distinct(corpus: StoryCorpus) -> None:
    """Otherwise the count of unique tokens would be wrong."""
    assert len({u.transcript for u in corpus.train}) == len(corpus.train)


def test_too_small_a_world_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_MAX_DRAWS_PER_TEXT", 1)  # so that one repeated text is enough
    with pytest.raises(UserError, match=r"world\.stories: .* ask for fewer"):
        generate_story_corpus(
            SPEC.model_copy(update={"prose": 10, "test": 5, "stories": 3000, "items_per_phenomenon": 2})
        )


def test_corpus_is_written_as_a_sealed_folder(tmp_path: Path) -> None:
    small = SPEC.model_copy(
        update={"prose": 50, "stories": 20, "test": 10, "items": 20, "items_per_phenomenon": 2}
    )
    write_story_corpus(small, tmp_path / "corpus")
    verify(tmp_path / "corpus", STORY_CORPUS_SCHEMA)
    assert len(list(read_manifest(tmp_path / "corpus" / "train.jsonl"))) == 70
