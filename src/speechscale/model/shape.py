"""Shape of a model, and the parameters and FLOPs that follow from it, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN, training_flops

# `paper`: the choices of the study's released code, with its quirks; `modern`: the same without the quirks.
TrainingPreset = Literal["paper", "modern"]


def check_heads(dim: int, heads: int) -> None:
    """Require an even number of dimensions per head, which rotary positions rotate in pairs.

    Raises:
        ValueError: `dim` is not an even multiple of `heads`.
    """
    if dim % heads or (dim // heads) % 2:
        raise ValueError(
            f"dim {dim} must be an even multiple of heads {heads}, for rotary positions turn pairs"
        )


def exact_training_flops(matmul_params: int, *, layers: int, dim: int, context: int, tokens: int) -> float:
    """Training FLOPs of every matrix product, causal attention and output projection included.

    A token at position t attends to t positions, (context + 1) / 2 on average. Scores and weighted sum take 2 dim
    multiply-adds per position. The backward pass costs twice the forward pass.

    Args:
        matmul_params: parameters of all matrix products that a token takes part in, output projection included.
        layers: number of layers.
        dim: width of the residual stream.
        context: tokens of a training window.
        tokens: tokens seen in training.
    """
    attention = layers * 2 * dim * (context + 1) / 2
    return FLOPS_PER_PARAM_TOKEN * (matmul_params + attention) * tokens


class ModelShape(BaseModel):
    """Shape of a Llama: RMSNorm, rotary positions, SwiGLU, no biases, tied embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1)
    dim: int = Field(ge=2)
    heads: int = Field(ge=1)
    vocabulary: int = Field(ge=2)  # units, EOS and padding
    context: int = Field(ge=2)  # tokens of a training window
    hidden_multiple: int = Field(default=256, ge=1)  # 256 in the study; smaller for nano models

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> ModelShape:
        check_heads(self.dim, self.heads)
        return self

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def eos(self) -> int:
        """The token that ends an utterance, and precedes the first one."""
        return self.vocabulary - 2

    @property
    def pad(self) -> int:
        """The padding token."""
        return self.vocabulary - 1

    @property
    def hidden(self) -> int:
        """SwiGLU width: 2/3 of 4 dim, rounded up to a multiple of `hidden_multiple` (released code of the study)."""
        return -(-int(2 * 4 * self.dim / 3) // self.hidden_multiple) * self.hidden_multiple

    @property
    def layer_matmul_params(self) -> int:
        """Parameters of the matrix products of all layers, without the output projection."""
        return self.layers * (4 * self.dim**2 + 3 * self.dim * self.hidden)

    @property
    def params(self) -> int:
        """N: parameters without the embedding, the convention of the laws."""
        return self.layer_matmul_params + self.layers * 2 * self.dim + self.dim

    @property
    def params_total(self) -> int:
        """All parameters; the tied embedding counts once."""
        return self.params + self.vocabulary * self.dim

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""
        return training_flops(self.params, tokens)

    def flops_exact(self, tokens: int) -> float:
        """Training FLOPs of every matrix product, as `exact_training_flops` counts them."""
        return exact_training_flops(
            self.layer_matmul_params + self.vocabulary * self.dim,
            layers=self.layers,
            dim=self.dim,
            context=self.context,
            tokens=tokens,
        )
