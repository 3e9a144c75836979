"""The transformer of the study: a Llama with rotary positions, SwiGLU and tied embeddings.

Shape suffixes: B batch, T positions, D dim, H heads, K head dim, V vocabulary, S selected positions.
Query, key and value projections share one matrix, as do gate and up projections: fewer and larger products compute
the same function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechscale.model.shape import ModelShape, TrainingPreset

ROPE_THETA = 10_000.0
NORM_EPS = 1e-5
INIT_STD = 0.02
# On CPUs flash attention is faster in bfloat16 than in float32 for long windows only (docs/LOG.md).
_BFLOAT16_MIN_POSITIONS = 512


class KVCache:
    """Keys and values of the positions that one layer has processed.

    Attributes:
        capacity: maximum number of positions.
        length: number of positions so far.
    """

    def __init__(self, capacity: int) -> None:
        """Start an empty cache; memory for `capacity` positions is allocated with the first of them."""
        self.capacity, self.length = capacity, 0
        self._keys_values: tuple[Tensor, Tensor] | None = None

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values [B, H, T, K] of further positions; returns those of all positions."""
        if self._keys_values is None:
            batch, heads, _, width = k_BHTK.shape
            allocated = (batch, heads, self.capacity, width)
            self._keys_values = k_BHTK.new_empty(allocated), v_BHTK.new_empty(allocated)
        start, self.length = self.length, self.length + k_BHTK.shape[2]
        for cached, new in zip(self._keys_values, (k_BHTK, v_BHTK), strict=True):
            cached[:, :, start : self.length] = new
        keys, values = self._keys_values
        return keys[:, :, : self.length], values[:, :, : self.length]


class Block(nn.Module):
    """A layer: attention, then SwiGLU, each on normalised input, each added to the residual stream."""

    def __init__(self, shape: ModelShape) -> None:
        """Allocate the parameters; `Transformer` initialises them."""
        super().__init__()
        self.heads, self.hidden = shape.heads, shape.hidden
        self.attention_norm = nn.Parameter(torch.ones(shape.dim))
        self.qkv = nn.Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = nn.Linear(shape.dim, shape.dim, bias=False)
        self.mlp_norm = nn.Parameter(torch.ones(shape.dim))
        self.gate_up = nn.Linear(shape.dim, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.dim, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        kv_cache: KVCache | None = None,
    ) -> Tensor:
        """Output [B, T, D] of the layer.

        Args:
            x_BTD: the residual stream, float [B, T, D].
            rotary: cosines and signed sines, [T, K] or [B, 1, T, K].
            attention_mask: [B, 1, T, T], boolean or additive; causal when None.
            kv_cache: the positions before these, if any.
        """
        x_BTD = x_BTD + self._attend(_rms_norm(x_BTD, self.attention_norm), rotary, attention_mask, kv_cache)
        gate, up = self.gate_up(_rms_norm(x_BTD, self.mlp_norm)).chunk(2, dim=-1)
        residual: Tensor = self.down(F.silu(gate) * up)
        return x_BTD + residual

    def _attend(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        kv_cache: KVCache | None,
    ) -> Tensor:
        batch, length, dim = x_BTD.shape
        qkv = self.qkv(x_BTD).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q_BHTK, k_BHTK = _apply_rotary(qkv[:2], rotary)
        v_BHTK = qkv[2]
        if kv_cache is not None:
            k_BHTK, v_BHTK = kv_cache.extend(k_BHTK, v_BHTK)
        attended = _causal_attention(q_BHTK, k_BHTK, v_BHTK, attention_mask)
        output: Tensor = self.out(attended.transpose(1, 2).reshape(batch, length, dim))
        return output


class Transformer(nn.Module):
    """A causal language model of units; it implements `LanguageModel` of `protocol.py`."""

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, shape: ModelShape, preset: TrainingPreset = "paper") -> None:
        """Initialise the parameters from torch's global generator."""
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.dim)  # also the output projection
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.dim))
        cos, sin = rotary_tables(shape.context, shape.head_dim)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)
        self._initialise(preset)

    def _initialise(self, preset: TrainingPreset) -> None:
        """Normal with deviation 0.02, divided by sqrt(2 layers) where a matrix writes to the residual stream.

        The released code of the study scales the *up* projection (its w3) down instead of the down projection. The
        `paper` preset does the same; `modern` scales the projection that writes to the stream.
        """
        small = INIT_STD / math.sqrt(2 * self.shape.layers)
        nn.init.normal_(self.embedding.weight, std=INIT_STD)
        for block in self.blocks:
            assert isinstance(block, Block)
            for linear in (block.qkv, block.gate_up, block.down):
                nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.normal_(block.out.weight, std=small)
            scaled_down = block.gate_up.weight[block.hidden :] if preset == "paper" else block.down.weight
            with torch.no_grad():
                scaled_down.mul_(small / INIT_STD)

    @property
    def vocabulary(self) -> int:
        """Number of tokens, EOS and padding included."""
        return self.shape.vocabulary

    @property
    def context(self) -> int:
        """Maximum number of positions."""
        return self.shape.context

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.weight.device

    @property
    def supports_shared_prefix(self) -> bool:
        """Always: `attention_mask` and `position_ids_BT` are exact."""
        return True

    def forward(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        kv_cache: Sequence[KVCache] | None = None,
        position_ids_BT: Tensor | None = None,
        positions_S: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token, [B, T, V], or [S, V] with `positions_S`.

        Args:
            tokens_BT: int64 [B, T], T at most the context.
            attention_mask: bool [B, 1, T, T], which positions (last axis) each position attends to; causal when None.
            kv_cache: one per layer; the tokens follow those in the cache. Any number of tokens may come first, then
                one at a time.
            position_ids_BT: int64 [B, T], the position of each token in its sequence; 0, 1, 2, … when None.
            positions_S: int64 [S], the positions to predict from, as b T + t; all of them when None.
        """
        start = kv_cache[0].length if kv_cache else 0
        positions = slice(start, start + tokens_BT.shape[1])
        rotary = (self.rotary_cos[positions], self.rotary_sin[positions])
        if position_ids_BT is not None:
            rotary = (self.rotary_cos[position_ids_BT][:, None], self.rotary_sin[position_ids_BT][:, None])
        if attention_mask is not None and tokens_BT.device.type == "cpu":
            # Converted once here, instead of in every layer.
            attention_mask = torch.zeros(attention_mask.shape).masked_fill(~attention_mask, -torch.inf)
        x_BTD = self.embedding(tokens_BT)
        for number, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, rotary, attention_mask, kv_cache[number] if kv_cache else None)
        if positions_S is not None:
            x_BTD = x_BTD.flatten(0, 1)[positions_S]
        return F.linear(_rms_norm(x_BTD, self.norm), self.embedding.weight)


def rotary_tables(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, float32 [length, head_dim] each (Su et al. 2021); i is paired with i + head_dim/2."""
    frequencies = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return torch.cat([angles.cos()] * 2, dim=1), torch.cat([-angles.sin(), angles.sin()], dim=1)


def _apply_rotary(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    swapped = torch.roll(x, x.shape[-1] // 2, dims=-1)
    return x * cos + swapped * sin


def document_mask(tokens_BT: Tensor, eos: int) -> Tensor:
    """Causal attention mask within documents, bool [B, 1, T, T].

    An EOS among the inputs begins the document after it, as BOS does when a document is read alone.
    """
    document = (tokens_BT == eos).cumsum(dim=1)
    same = document[:, None, :, None] == document[:, None, None, :]
    return same.tril()


def _causal_attention(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, attention_mask: Tensor | None
) -> Tensor:
    # With a cache there is one query, of the last position, which attends to every key.
    causal = attention_mask is None and q_BHTK.shape[2] == k_BHTK.shape[2]
    if q_BHTK.device.type != "cpu":
        return F.scaled_dot_product_attention(
            q_BHTK.to(v_BHTK.dtype), k_BHTK.to(v_BHTK.dtype), v_BHTK, attention_mask, is_causal=causal
        )
    dtype = v_BHTK.dtype if q_BHTK.shape[2] >= _BFLOAT16_MIN_POSITIONS else torch.float32
    with torch.autocast("cpu", enabled=False):  # autocast would convert float32 to bfloat16
        return F.scaled_dot_product_attention(
            q_BHTK.to(dtype), k_BHTK.to(dtype), v_BHTK.to(dtype), attention_mask, is_causal=causal
        )


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, NORM_EPS)
