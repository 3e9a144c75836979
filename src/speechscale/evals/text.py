"""Written pairs as tokens of a text model, so that the scorer of units scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from speechscale.errors import UserError
from speechscale.evals.tasks import Pair
from speechscale.records.text_pairs import TextPair

Tokenize = Callable[[str], np.ndarray]  # text to int64 [tokens]


def text_pairs(task: str, pairs: Sequence[TextPair], tokenize: Tokenize) -> Iterator[Pair]:
    """Every member tokenized whole, prompt and ending with a space between them.

    Raises:
        UserError: a text has no tokens; the sentence names the pair.
    """
    for pair in pairs:
        yield _pair(task, pair, tokenize)


def _pair(task: str, pair: TextPair, tokenize: Tokenize) -> Pair:
    before = f"{pair.prompt} " if pair.prompt else ""
    correct, wrong = (tokenize(before + ending) for ending in (pair.correct, pair.wrong))
    if not len(correct) or not len(wrong):
        raise UserError(f"{task}/{pair.pair_id}: a text without tokens; is the tokenizer the model's?")
    return Pair(
        task,
        pair.group_id,
        pair.pair_id,
        correct,
        wrong,
        phenomenon=pair.phenomenon,
        frequency=pair.frequency,
        prompt=_shared(tokenize(pair.prompt), correct, wrong) if pair.prompt else 0,
    )


def _shared(prompt: np.ndarray, correct: np.ndarray, wrong: np.ndarray) -> int:
    """Tokens of the prompt that both members begin with: all of them, unless the tokenizer joins its last with what
    follows. One is left for each ending."""
    most = min(len(prompt), len(correct) - 1, len(wrong) - 1)
    differing = np.flatnonzero((correct[:most] != prompt[:most]) | (wrong[:most] != prompt[:most]))
    return int(differing[0]) if len(differing) else most
