"""What a model must offer to be scored: our transformer does, and any causal language model of Hugging Face."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class LanguageModel(Protocol):
    """Tokens in, logits of the next token out. Shapes: B rows, T positions, S predictions, V vocabulary."""

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""

    @property
    def context(self) -> int:
        """Positions that it reads at most."""

    @property
    def device(self) -> torch.device: ...

    @property
    def supports_shared_prefix(self) -> bool:
        """Whether it minds `visible` and `places_BT`, so that one row can go on in two ways."""

    def __call__(
        self,
        tokens_BT: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits [S, V] of the token that follows each of the positions `at`; [B, T, V], of all, without it.

        Args:
            tokens_BT: integers. What stands to the right of a position cannot change its logits.
            visible: bool [B, 1, T, T], what each position attends to; all up to itself when None.
            places_BT: the place of each token in its sequence; 0, 1, 2, … when None.
            at: integers [S], positions as b T + t.
        """
