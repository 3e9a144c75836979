"""The interface of models that can be scored, ours and causal language models of Hugging Face."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class LanguageModel(Protocol):
    """Logits of the next token. Shapes: B rows, T positions, S predictions, V vocabulary."""

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""

    @property
    def context(self) -> int:
        """Maximum number of positions."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and the inputs must be."""

    @property
    def supports_shared_prefix(self) -> bool:
        """Whether one row can hold two suffixes of a prefix, by `attention_mask` and `position_ids_BT`."""

    def __call__(
        self,
        tokens_BT: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        positions_S: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each position, or after selected positions.

        Args:
            tokens_BT: int64 [B, T]; attention is causal, so padding to the right changes no logits before it.
            attention_mask: bool [B, 1, T, T], which positions (last axis) each position attends to; causal when None.
            position_ids_BT: int64 [B, T], the position of each token in its sequence; 0, 1, 2, … when None.
            positions_S: int64 [S], the positions to predict from, as b T + t; all of them when None.

        Returns:
            Logits [S, V], or [B, T, V] without `positions_S`, in the precision of the model.
        """
