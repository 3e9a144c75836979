"""Tokenizers of text language models, from a folder or a revision of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from speechscale.errors import UserError
from speechscale.model.hugging_face import quiet_library_logs


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer that adds no special tokens; the caller adds BOS and EOS.

    Attributes:
        tokenizer: the tokenizer of transformers.
        bos: the token before a text.
        eos: the token after a text.
    """

    tokenizer: Any
    bos: int
    eos: int

    def __call__(self, text: str) -> np.ndarray:
        """Tokens of a text, without special tokens; int64 [tokens]."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)


def load_text_tokenizer(model: str, revision: str | None) -> TextTokenizer:
    """Load the tokenizer of a model.

    Where the tokenizer names no BOS, its EOS serves as both, as it does for units: models such as Pythia were trained
    on documents with one token between them.

    Raises:
        UserError: no tokenizer there, or none that names an EOS.
    """
    from transformers import AutoTokenizer

    quiet_library_logs()
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:  # of transformers, for unusable files
        raise UserError(
            f"{model}: its tokenizer cannot be opened ({str(error).splitlines()[0]}); tokenizer.json and "
            "tokenizer_config.json are wanted beside the model."
        ) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{model}: its tokenizer names no end of a text (eos_token), so nothing says where one begins; name it in "
            "tokenizer_config.json."
        )
    bos = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return TextTokenizer(tokenizer, bos, tokenizer.eos_token_id)
