"""Written pairs as token pairs of a text model, for the scorer that also scores units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from speechscale.errors import UserError
from speechscale.evals.contrasts import contrast_of_texts
from speechscale.evals.tasks import Pair
from speechscale.records.text_pairs import TextPair

Tokenize = Callable[[str], np.ndarray]  # from text to int64 [tokens]


def text_pairs(task: str, pairs: Sequence[TextPair], tokenize: Tokenize) -> Iterator[Pair]:
    """Token pairs; each member is tokenized as a whole, with a space between prompt and ending.

    Args:
        task: name of the task.
        pairs: written pairs.
        tokenize: the tokenizer of the model, without special tokens.

    Raises:
        UserError: a text has no tokens; the sentence names the pair.
    """
    for pair in pairs:
        yield _pair(task, pair, tokenize)


def _pair(task: str, pair: TextPair, tokenize: Tokenize) -> Pair:
    prefix = f"{pair.prompt} " if pair.prompt else ""
    correct, wrong = (tokenize(prefix + ending) for ending in (pair.correct, pair.wrong))
    if not len(correct) or not len(wrong):
        raise UserError(
            f"{task}/{pair.pair_id}: a text without tokens; does the tokenizer belong to the model?"
        )
    return Pair(
        task,
        pair.group_id,
        pair.pair_id,
        correct,
        wrong,
        phenomenon=pair.phenomenon,
        frequency=pair.frequency,
        contrast=contrast_of_texts(pair.correct, pair.wrong),
        contrast_source="text",
        prompt=_shared_prompt_tokens(tokenize(pair.prompt), correct, wrong) if pair.prompt else 0,
    )


def _shared_prompt_tokens(prompt: np.ndarray, correct: np.ndarray, wrong: np.ndarray) -> int:
    """Number of prompt tokens that both members begin with; at least one token is left for each ending.

    It is less than the length of the prompt where the tokenizer merges its last token with the ending.
    """
    most = min(len(prompt), len(correct) - 1, len(wrong) - 1)
    differing = np.flatnonzero((correct[:most] != prompt[:most]) | (wrong[:most] != prompt[:most]))
    return int(differing[0]) if len(differing) else most
