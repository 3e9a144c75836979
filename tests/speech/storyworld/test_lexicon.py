"""The lexicons: distinct forms, disjoint parts of speech, balanced classes."""

from collections import defaultdict

import pytest

from speechscale.errors import UserError
from speechscale.speech.storyworld.lexicon import load_lexicon


def nouns(lexicon):
    return (*lexicon.animates, *lexicon.places, *lexicon.things)


def test_unknown_world_is_refused_with_a_list_of_worlds():
    with pytest.raises(UserError, match="'huge' is not known; choose one of large, small"):
        load_lexicon("huge")


def test_numbers_and_tenses_differ_in_form(world):
    lexicon = world.lexicon
    assert all(noun.singular != noun.plural for noun in nouns(lexicon))
    assert all(verb.singular != verb.plural for verb in (*lexicon.intransitive, *lexicon.transitive))
    # A past that is also a present, or a participle that is also a past, would make wrong members grammatical.
    assert all(len({v.plural, v.singular, v.past, v.participle}) == 4 for v in lexicon.irregular)


def test_no_verb_is_both_transitive_and_intransitive(world):
    lexicon = world.lexicon
    assert not set(lexicon.intransitive) & {*lexicon.transitive, *lexicon.irregular, *lexicon.gifts}
    assert not set(lexicon.transitive) & {*lexicon.cognition, *lexicon.speaking, *lexicon.gifts}


def test_parts_of_speech_are_disjoint(world):
    lexicon = world.lexicon
    verbs = (
        *lexicon.intransitive,
        *lexicon.transitive,
        *lexicon.irregular,
        *lexicon.cognition,
        *lexicon.wishes,
    )
    verbs += (
        *lexicon.gains,
        *lexicon.thefts,
        *lexicon.speaking,
        *lexicon.intentions,
        *lexicon.gifts,
        *lexicon.help,
    )
    verbs += tuple(verb for topic in lexicon.topics for verb in topic.uses)
    parts = defaultdict(set)
    for noun in nouns(lexicon):
        parts["noun"] |= {noun.singular, noun.plural}
    for verb in verbs:
        parts["verb"] |= {verb.singular, verb.plural, verb.past, verb.participle} - {""}
    parts["adjective"] = {*lexicon.states, *(state for topic in lexicon.topics for state in topic.states)}
    parts["other"] = {*lexicon.adverbs, *lexicon.conjunctions, *lexicon.prepositions}
    all_words = [word for words in parts.values() for word in words]
    assert len(all_words) == len(set(all_words))
    assert len(set(nouns(lexicon))) == len(nouns(lexicon))


def test_glad_and_sad_words_are_balanced(world):
    lexicon = world.lexicon
    assert len(lexicon.good_feelings) == len(lexicon.bad_feelings)
    assert len(lexicon.good_reactions) == len(lexicon.bad_reactions)
    shared = [
        len(set(verbs) & set(lexicon.intransitive))
        for verbs in (lexicon.good_reactions, lexicon.bad_reactions)
    ]
    assert shared[0] == shared[1]


def test_sexes_of_people_are_balanced(world):
    pronouns = [noun.pronoun for noun in world.lexicon.people]
    assert set(pronouns) == {"she", "he"}
    assert pronouns.count("she") == pronouns.count("he")


def test_size_of_the_large_world(large):
    lexicon = large.lexicon
    assert lexicon.depth >= 3
    assert len(lexicon.topics) >= 12
    irregular = {(noun.singular, noun.plural) for noun in lexicon.animates}
    assert irregular >= {
        ("woman", "women"),
        ("man", "men"),
        ("mouse", "mice"),
        ("goose", "geese"),
        ("ox", "oxen"),
    }
