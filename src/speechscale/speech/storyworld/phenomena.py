"""Grammatical phenomena of the minimal pairs, each with many contrasts of words that are right in both directions.

A *contrast* is an unordered pair of words (or of pairs of words) by which two sentences differ. Every contrast is drawn
with its mirror image: where one alternative is right, the other is wrong, and in the next item it is the reverse. A
preference for one of the two words therefore decides nothing, and over a phenomenon each word occurs equally often in
right and in wrong members. No phenomenon rests on fewer than `MIN_CONTRASTS` contrasts.

The contrasts of a phenomenon are listed in tiers, the purest first: forms of one word, then forms of two words. A tier
is used where those before it have too few contrasts, as in the small world. Where a closed class carries a phenomenon
("no" and "some", "what" and "that"), a noun beside it differs as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import permutations, product
from random import Random

from speechscale.speech.storyworld.grammar import Grammar, Participant, Words, demonstrative
from speechscale.speech.storyworld.lexicon import NUMBERS, Noun, Number, Verb

MIN_CONTRASTS = 30
_MAX_LONGER = 2  # letters
_ADJECTIVE = 0.3  # probability of one before a noun, as in training

WordPair = tuple[Words, Words]  # correct member, wrong member
DrawMirrored = Callable[[Random], list[WordPair]]  # both directions of one contrast, in a drawn frame
Phenomenon = Callable[[Grammar], list[DrawMirrored]]
VerbClass = tuple[Sequence[Verb], Callable[[Random], Words]]  # verbs, and what follows any of them


def agreement(world: Grammar) -> list[DrawMirrored]:
    """The dog sleeps / sleep, and the dogs sleep / sleeps."""
    return _agreement(world, with_attractor=False)


def agreement_attractor(world: Grammar) -> list[DrawMirrored]:
    """The dog near the cats sleeps / sleep: the nearest noun has the other number."""
    return _agreement(world, with_attractor=True)


def determiner_noun(world: Grammar) -> list[DrawMirrored]:
    """This dog / dogs, and these dogs / dog."""
    lexicon = world.lexicon
    subjects = partial(_noun_after_demonstrative, world, False)
    objects = partial(_noun_after_demonstrative, world, True)
    return _first_tiers(
        [
            *(partial(subjects, noun, noun) for noun in lexicon.animates),
            *(partial(objects, noun, noun) for noun in lexicon.things),
        ],
        [
            *(partial(subjects, *nouns) for nouns in permutations(lexicon.animates, 2)),
            *(partial(objects, *nouns) for nouns in permutations(lexicon.things, 2)),
        ],
    )


def anaphor_gender(world: Grammar) -> list[DrawMirrored]:
    """The girl / boy sees herself, and the boy / girl sees himself."""
    people, verbs = world.lexicon.people, world.lexicon.transitive
    women, men = ([noun for noun in people if noun.pronoun == pronoun] for pronoun in ("she", "he"))
    subjects = partial(_subject_of_reflexive, world)
    return _first_tiers(
        [
            partial(subjects, (Participant(woman, "singular"), None), (Participant(man, "singular"), None))
            for woman, man in product(women, men)
        ],
        [
            partial(subjects, (Participant(woman, "singular"), one), (Participant(man, "singular"), two))
            for woman, man in product(women, men)
            for one, two in permutations(verbs, 2)
        ],
    )


def anaphor_number(world: Grammar) -> list[DrawMirrored]:
    """The girl sees herself / themselves; the girl sees / girls see herself, and the mirror images."""
    nouns, verbs = world.lexicon.animates, world.lexicon.transitive

    def subjects(pairs: Iterable[tuple[Noun, Noun]]) -> list[DrawMirrored]:
        return [
            partial(
                _subject_of_reflexive,
                world,
                (Participant(one, "singular"), verb),
                (Participant(two, "plural"), verb),
            )
            for one, two in pairs
            for verb in verbs
        ]

    by_pronoun = {noun.pronoun: [each for each in nouns if each.pronoun == noun.pronoun] for noun in nouns}
    return _first_tiers(
        [partial(_reflexive_number, world, of_pronoun) for of_pronoun in by_pronoun.values()],
        subjects((noun, noun) for noun in nouns),
        subjects(permutations(nouns, 2)),
    )


def argument_structure(world: Grammar) -> list[DrawMirrored]:
    """The dog finds / sleeps the ball, and the dog sleeps / finds near the tree."""
    lexicon = world.lexicon
    draw = partial(_object_or_none, world)
    return _first_tiers(
        [
            partial(draw, number, with_object.form(number), without_object.form(number))
            for with_object, without_object in product(lexicon.transitive, lexicon.intransitive)
            for number in NUMBERS
        ],
        [
            partial(draw, number, with_object.past, without_object.form(number))
            for with_object, without_object in product(lexicon.irregular, lexicon.intransitive)
            for number in NUMBERS
        ],
    )


def irregular_forms(world: Grammar) -> list[DrawMirrored]:
    """The boy took / taken the ball, and the boy has taken / took the ball."""
    irregular = world.lexicon.irregular
    draw = partial(_finite_or_participle, world)
    return _first_tiers(
        [partial(draw, None, verb.past, verb.participle) for verb in irregular],
        [partial(draw, None, one.past, two.participle) for one, two in permutations(irregular, 2)],
        [
            partial(draw, number, finite.form(number), verb.participle)
            for finite, verb in product(world.lexicon.transitive, irregular)
            for number in NUMBERS
        ],
    )


def npi_licensing(world: Grammar) -> list[DrawMirrored]:
    """No / some dogs ever sleep, and some / no dogs already sleep.

    "Some" is longer than "no", so the noun after "no" is the longer one: the mean likelihood of a sentence depends on
    its length, which would tie all contrasts together.
    """
    draw = partial(_licensor, world)
    nouns = world.lexicon.animates
    return _first_tiers(
        [partial(_with_one_noun, nouns, draw)],
        [
            partial(draw, negated, asserted, number)
            for negated, asserted in permutations(nouns, 2)
            for number in NUMBERS
            if 0 <= len(negated.form(number)) - len(asserted.form(number)) <= _MAX_LONGER
        ],
    )


def filler_gap(world: Grammar) -> list[DrawMirrored]:
    """Knows what / that the boys like, and knows that / what the boys like the cake."""
    draw = partial(_complementiser, world)
    nouns = world.lexicon.animates
    return _first_tiers(
        [partial(_with_one_noun, nouns, draw)],
        [partial(draw, one, two, number) for one, two in permutations(nouns, 2) for number in NUMBERS],
    )


PHENOMENA: dict[str, Phenomenon] = {
    phenomenon.__name__: phenomenon
    for phenomenon in (
        agreement,
        agreement_attractor,
        determiner_noun,
        anaphor_gender,
        anaphor_number,
        argument_structure,
        irregular_forms,
        npi_licensing,
        filler_gap,
    )
}


def _first_tiers(*tiers: list[DrawMirrored]) -> list[DrawMirrored]:
    """The contrasts of the first tiers, as many as it takes for `MIN_CONTRASTS`."""
    contrasts: list[DrawMirrored] = []
    for tier in tiers:
        if len(contrasts) < MIN_CONTRASTS:
            contrasts += tier
    return contrasts


# --- frames --------------------------------------------------------------------------------------------------------


def _agreement(world: Grammar, *, with_attractor: bool) -> list[DrawMirrored]:
    # In training no modifier separates a subject from "knows".
    nouns, classes = world.lexicon.animates, _verb_classes(world, cognition=not with_attractor)
    verb, noun = (
        partial(frame, world, with_attractor=with_attractor) for frame in (_agreeing_verb, _agreeing_noun)
    )
    return _first_tiers(
        [partial(verb, (each, each), rest) for verbs, rest in classes for each in verbs],
        [partial(noun, (each, each), classes) for each in nouns],
        [partial(verb, pair, rest) for verbs, rest in classes for pair in permutations(verbs, 2)],
        [partial(noun, pair, classes) for pair in permutations(nouns, 2)],
    )


def _verb_classes(world: Grammar, *, cognition: bool) -> list[VerbClass]:
    lexicon = world.lexicon

    def thing(rng: Random) -> Words:
        return world.noun_phrase(rng, world.thing(rng))

    that_clause: VerbClass = (
        lexicon.cognition,
        lambda rng: ["that", *world.clause_without_object(rng), *thing(rng)],
    )
    return [
        *([that_clause] if cognition else []),
        (lexicon.intransitive, world.place_phrase),
        (lexicon.transitive, lambda rng: world.noun_phrase(rng, world.animate_or_thing(rng))),
        ((Verb("have", "has"),), lambda rng: [rng.choice(lexicon.irregular).participle, *thing(rng)]),
        ((Verb("are", "is"),), lambda rng: [rng.choice(lexicon.states)]),
    ]


def _agreeing_verb(
    world: Grammar,
    verbs: tuple[Verb, Verb],
    rest: Callable[[Random], Words],
    rng: Random,
    *,
    with_attractor: bool,
) -> list[WordPair]:
    """The singular of one verb against the plural of the other, after a subject in either number."""
    noun, adjective, after = world.animate(rng).noun, _adjective(world, rng), rest(rng)
    attractor = _attractor(world, rng, with_attractor=with_attractor)
    forms: dict[Number, str] = {"singular": verbs[0].singular, "plural": verbs[1].plural}
    pairs = []
    for number in NUMBERS:
        subject = ["the", *adjective, noun.form(number), *attractor(number)]
        right, wrong = forms[number], forms[_opposite(number)]
        pairs.append(([*subject, right, *after], [*subject, wrong, *after]))
    return pairs


def _agreeing_noun(
    world: Grammar,
    nouns: tuple[Noun, Noun],
    classes: Sequence[VerbClass],
    rng: Random,
    *,
    with_attractor: bool,
) -> list[WordPair]:
    """The singular of one noun against the plural of the other, before a verb in either number."""
    adjective, (verbs, rest) = _adjective(world, rng), rng.choice(classes)
    verb, after = rng.choice(verbs), rest(rng)
    attractor = _attractor(world, rng, with_attractor=with_attractor)
    forms: dict[Number, str] = {"singular": nouns[0].singular, "plural": nouns[1].plural}
    pairs = []
    for number in NUMBERS:
        tail = [*attractor(number), verb.form(number), *after]
        right, wrong = forms[number], forms[_opposite(number)]
        pairs.append((["the", *adjective, right, *tail], ["the", *adjective, wrong, *tail]))
    return pairs


def _attractor(world: Grammar, rng: Random, *, with_attractor: bool) -> Callable[[Number], Words]:
    """A modifier of the subject, as a function of the number of the subject: its noun has the opposite one."""
    near, noun = rng.choice(world.lexicon.prepositions), rng.choice(world.lexicon.animates)
    return lambda number: [near, "the", noun.form(_opposite(number))] if with_attractor else []


def _noun_after_demonstrative(
    world: Grammar, as_object: bool, one: Noun, many: Noun, rng: Random
) -> list[WordPair]:
    """The singular of one noun against the plural of the other; a past form hides the number of the subject."""
    adjective, verb = _adjective(world, rng), rng.choice(world.lexicon.irregular).past
    subject, thing = (world.noun_phrase(rng, who, "the") for who in (world.animate(rng), world.thing(rng)))
    forms: dict[Number, str] = {"singular": one.singular, "plural": many.plural}

    def sentence(number: Number, noun: str) -> Words:
        phrase = [demonstrative(number), *adjective, noun]
        return [*subject, verb, *phrase] if as_object else [*phrase, verb, *thing]

    return [
        (sentence(number, forms[number]), sentence(number, forms[_opposite(number)])) for number in NUMBERS
    ]


def _subject_of_reflexive(
    world: Grammar,
    first: tuple[Participant, Verb | None],
    second: tuple[Participant, Verb | None],
    rng: Random,
) -> list[WordPair]:
    """Two subjects, each with its verb (None: one that both share), before the reflexive of either."""
    adjective, place, shared = _adjective(world, rng), world.place_phrase(rng), world.lexicon.transitive
    drawn = rng.choice(shared)
    stems = [
        ["the", *adjective, who.name, *place, (verb or drawn).form(who.number)]
        for who, verb in (first, second)
    ]
    reflexives = first[0].reflexive, second[0].reflexive
    return [
        ([*stems[right], reflexives[right]], [*stems[1 - right], reflexives[right]]) for right in range(2)
    ]


def _reflexive_number(world: Grammar, nouns: Sequence[Noun], rng: Random) -> list[WordPair]:
    """Singular against plural reflexive, of nouns with one pronoun."""
    noun, verb = rng.choice(nouns), rng.choice(world.lexicon.transitive)
    place, adjective = world.place_phrase(rng), _adjective(world, rng)
    pairs = []
    for number in NUMBERS:
        who, mismatch = Participant(noun, number), Participant(noun, _opposite(number))
        stem = ["the", *adjective, who.name, *place, verb.form(number)]
        pairs.append(([*stem, who.reflexive], [*stem, mismatch.reflexive]))
    return pairs


def _object_or_none(
    world: Grammar, number: Number, with_object: str, without_object: str, rng: Random
) -> list[WordPair]:
    stem = world.noun_phrase(rng, world.animate(rng, number))
    thing, place = world.noun_phrase(rng, world.thing(rng)), world.place_phrase(rng)
    return [
        ([*stem, with_object, *thing], [*stem, without_object, *thing]),
        ([*stem, without_object, *place], [*stem, with_object, *place]),
    ]


def _finite_or_participle(
    world: Grammar, number: Number | None, finite: str, participle: str, rng: Random
) -> list[WordPair]:
    """A finite form (of a number, where it has one) against a participle, without and with an auxiliary."""
    who = world.animate(rng, number)
    stem = world.subject(rng, who, world.lexicon.depth)
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*stem, finite, *thing], [*stem, participle, *thing]),
        ([*stem, who.have, participle, *thing], [*stem, who.have, finite, *thing]),
    ]


def _licensor(world: Grammar, negated: Noun, asserted: Noun, number: Number, rng: Random) -> list[WordPair]:
    """`no` with one noun against `some` with another: the first licenses "ever", the second "already"."""
    adjective = _adjective(world, rng)
    phrases = [["no", *adjective, negated.form(number)], ["some", *adjective, asserted.form(number)]]
    rest = [rng.choice(world.lexicon.intransitive).form(number), *world.place_phrase(rng)]
    return [
        ([*phrases[right], adverb, *rest], [*phrases[1 - right], adverb, *rest])
        for right, adverb in enumerate(("ever", "already"))
    ]


def _complementiser(
    world: Grammar, of_gap: Noun, of_clause: Noun, number: Number, rng: Random
) -> list[WordPair]:
    """`what` with the subject of one clause against `that` with another, before a clause without and with an object."""
    who = world.animate(rng)
    stem = [*world.noun_phrase(rng, who), rng.choice(world.lexicon.cognition).form(who.number)]
    determiner = [world.determiner(rng, number), *_adjective(world, rng)]
    gap, clause = (
        [*stem, word, *determiner, noun.form(number)]
        for word, noun in (("what", of_gap), ("that", of_clause))
    )
    verb = rng.choice(world.lexicon.transitive).form(number)
    thing = world.noun_phrase(rng, world.thing(rng))
    return [
        ([*gap, verb], [*clause, verb]),
        ([*clause, verb, *thing], [*gap, verb, *thing]),
    ]


def _with_one_noun(
    nouns: Sequence[Noun], draw: Callable[[Noun, Noun, Number, Random], list[WordPair]], rng: Random
) -> list[WordPair]:
    """Pairs whose members have the same noun, so that they differ in one word of a closed class only."""
    noun = rng.choice(nouns)
    return draw(noun, noun, rng.choice(NUMBERS), rng)


def _adjective(world: Grammar, rng: Random) -> Words:
    return [rng.choice(world.lexicon.adjectives)] if rng.random() < _ADJECTIVE else []


def _opposite(number: Number) -> Number:
    return "plural" if number == "singular" else "singular"
