"""How large a model is and what a token costs, from its shape alone; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.records.flops import training_flops

Preset = Literal["paper", "modern"]  # the released code's choices, quirks included; or those quirks mended
Precision = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]  # auto: the GPU where there is one


def check_heads(dim: int, heads: int) -> None:
    """Every head needs an even share of the dimensions.

    Raises:
        ValueError: it has not.
    """
    if dim % heads or (dim // heads) % 2:
        raise ValueError(
            f"dim {dim} must be an even multiple of heads {heads}, for rotary positions turn pairs"
        )


class ModelShape(BaseModel):
    """A Llama: RMSNorm, rotary positions, SwiGLU, no biases, tied embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1)
    dim: int = Field(ge=2)
    heads: int = Field(ge=1)
    vocabulary: int = Field(ge=2)
    context: int = Field(ge=2)  # tokens of a training window
    hidden_multiple: int = Field(default=256, ge=1)  # the study's; nano models take a finer one

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> ModelShape:
        check_heads(self.dim, self.heads)
        return self

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def eos(self) -> int:
        """The unit that closes an utterance, and stands before the first; the vocabulary is units, EOS, padding."""
        return self.vocabulary - 2

    @property
    def pad(self) -> int:
        return self.vocabulary - 1

    @property
    def hidden(self) -> int:
        """SwiGLU width: 2/3 of 4 dim, rounded up to `hidden_multiple` (released code of the study)."""
        return -(-int(2 * 4 * self.dim / 3) // self.hidden_multiple) * self.hidden_multiple

    @property
    def matrices(self) -> int:
        """Parameters of the matrix products of all layers, the output projection left out."""
        return self.layers * (4 * self.dim**2 + 3 * self.dim * self.hidden)

    @property
    def params(self) -> int:
        """N: parameters without the embedding, the convention of the laws."""
        return self.matrices + self.layers * 2 * self.dim + self.dim

    @property
    def params_total(self) -> int:
        """All parameters; the tied embedding counts once."""
        return self.params + self.vocabulary * self.dim

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""
        return training_flops(self.params, tokens)

    def flops_exact(self, tokens: int) -> float:
        """Training FLOPs of every matrix product, causal attention and output projection included.

        A token at position t attends to t positions, (context + 1) / 2 on average; scores and weighted sum take
        2 dim multiply-adds a position each. Backward costs twice the forward pass.
        """
        attention = self.layers * 2 * self.dim * (self.context + 1) / 2
        forward = 2.0 * (self.matrices + self.vocabulary * self.dim + attention)
        return 3.0 * forward * tokens
