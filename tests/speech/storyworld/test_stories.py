"""Prose and stories: grammatical, coherent, a function of the seed, and as rich as their world."""

import re
from random import Random

import pytest
from grammar_oracle import Oracle, coherent


def sentences_of(world, count, seed=0):
    rng = Random(seed)
    sentences = []
    while len(sentences) < count:
        sentences += world.prose(rng)
    return sentences[:count]


def words_of(sentences):
    return [sentence.lower().removesuffix(".").split() for sentence in sentences]


@pytest.mark.parametrize(
    ("sentence", "is_grammatical"),
    [
        ("The dog near the cats sleeps.", True),
        ("The dog near the cats sleep.", False),
        ("These dog sleep.", False),
        ("The girls like themselves.", True),
        ("The girl likes himself.", False),
        ("The king knows what the boy finds.", True),
        ("The king knows that the boy finds.", False),
        ("The boy has took the ball.", False),
        ("The boy taken the ball.", False),
        ("No dogs ever sleep.", True),
        ("Some dogs ever sleep.", False),
        ("The dog sleeps the ball.", False),
        ("The dog finds near the tree.", False),
        ("The sad dog sleeps.", False),
        ("The tree sleeps.", False),
        ("Dog the sleeps.", False),
    ],
)
def test_oracle_judges_grammaticality(small, sentence, is_grammatical):
    assert Oracle(small.lexicon).grammatical(sentence) is is_grammatical


@pytest.mark.parametrize(
    ("sentence", "is_grammatical"),
    [
        ("The woman that the mice chase wants to find the cake.", True),
        ("The woman that the mice chases wants to find the cake.", False),
        ("The men and the goose sleep quietly.", True),
        ("The men and the goose sleeps quietly.", False),
        ("The aunt says that the fox gives the oxen these cakes because no wolf ever sleeps.", True),
        ("The aunt says that the fox give the oxen these cakes.", False),
    ],
)
def test_oracle_judges_nested_sentences(large, sentence, is_grammatical):
    assert Oracle(large.lexicon).grammatical(sentence) is is_grammatical


def test_prose_is_grammatical(world):
    oracle = Oracle(world.lexicon)
    assert [sentence for sentence in sentences_of(world, 4000) if not oracle.grammatical(sentence)] == []


def test_texts_depend_on_the_seed_only(world):
    def texts(seed):
        rng = Random(seed)
        return [world.prose(rng) for _ in range(20)], [world.story(rng).text for _ in range(20)]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_stories_are_coherent(world):
    rng = Random(0)
    stories = [world.story(rng) for _ in range(1000)]
    assert [story.text for story in stories if not coherent(world.lexicon, story.text)] == []
    assert 0.45 < sum(story.hero_succeeds for story in stories) / len(stories) < 0.55
    assert all(story.plot.hero.noun != story.plot.other.noun for story in stories)
    assert {story.plot.topic.name for story in stories} == {topic.name for topic in world.lexicon.topics}


def test_small_world_is_small_and_flat(small):
    rng = Random(0)
    texts = [*sentences_of(small, 2000), *(s for _ in range(500) for s in small.story(rng).sentences)]
    types = {word for words in words_of(texts) for word in words}
    assert 80 <= len(types) <= 100
    assert max(len(words) for words in words_of(texts)) <= 14
    assert "that likes" not in " ".join(texts)


def test_large_world_keeps_producing_new_text(large):
    sentences = sentences_of(large, 20_000)
    assert len(set(sentences)) > 0.995 * len(sentences)
    assert len({word for words in words_of(sentences) for word in words}) > 700

    def trigrams(part):
        return {t for words in words_of(part) for t in zip(words, words[1:], words[2:], strict=False)}

    # Twice the text has more than 1.6 times as many word trigrams: far from saturation.
    assert len(trigrams(sentences)) > 1.6 * len(trigrams(sentences[:10_000])) > 80_000


def test_large_world_has_nested_clauses(large):
    text = " ".join(sentences_of(large, 3000)).lower()
    speaking = "|".join(verb.singular for verb in large.lexicon.speaking)
    nested = "that the [a-z]+ that|that [a-z]+ (the|this|these) [a-z]+ that"
    for construction in (rf"({speaking}) that", "what (the|this|these)", r"\band\b", r"\bto\b", nested):
        assert re.search(construction, text), construction


def test_no_and_some_are_equally_frequent(world):
    words = [word for sentence in words_of(sentences_of(world, 12_000)) for word in sentence]
    no, some = words.count("no"), words.count("some")
    assert abs(no - some) < 0.15 * min(no, some)
    assert words.count("ever") == no  # so `ever` is always licensed
