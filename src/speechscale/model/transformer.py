"""The transformer of the study, top to bottom.

Legend of shapes: B batch, T positions, D dim, H heads, K head dim, V vocabulary.
Query, key and value share one matrix, and so do gate and up projection: fewer, larger products, the same function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechscale.model.shape import ModelShape, Preset

ROPE_THETA = 10_000.0
NORM_EPS = 1e-5
INIT_STD = 0.02
_LONG = 512  # positions


class KVCache:
    """Keys and values [B, H, T, K] of the positions that one layer has read, with room for `length` of them."""

    def __init__(self, length: int) -> None:
        self.length, self.read = length, 0
        self.kept: tuple[Tensor, Tensor] | None = None

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of further positions; returns those of all."""
        if self.kept is None:
            batch, heads, _, width = k_BHTK.shape
            room = (batch, heads, self.length, width)
            self.kept = k_BHTK.new_empty(room), v_BHTK.new_empty(room)
        start, self.read = self.read, self.read + k_BHTK.shape[2]
        for kept, new in zip(self.kept, (k_BHTK, v_BHTK), strict=True):
            kept[:, :, start : self.read] = new
        keys, values = self.kept
        return keys[:, :, : self.read], values[:, :, : self.read]


class Block(nn.Module):
    """Attention, then SwiGLU, each on a normalised copy and added back."""

    def __init__(self, shape: ModelShape) -> None:
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
        x_BTD = x_BTD + self._attend(_norm(x_BTD, self.attention_norm), rotary, attention_mask, kv_cache)
        gate, up = self.gate_up(_norm(x_BTD, self.mlp_norm)).chunk(2, dim=-1)
        return x_BTD + self.down(F.silu(gate) * up)

    def _attend(
        self,
        x_BTD: Tensor,
        rotary: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        kv_cache: KVCache | None,
    ) -> Tensor:
        batch, length, dim = x_BTD.shape
        qkv = self.qkv(x_BTD).view(batch, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q_BHTK, k_BHTK = _rotate(qkv[:2], rotary)
        v_BHTK = qkv[2]
        if kv_cache is not None:
            k_BHTK, v_BHTK = kv_cache.extend(k_BHTK, v_BHTK)
        mixed = _causal_attention(q_BHTK, k_BHTK, v_BHTK, attention_mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class Transformer(nn.Module):
    """Units in, logits out."""

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, shape: ModelShape, preset: Preset = "paper") -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.dim)  # also the output projection
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.dim))
        cos, sin = rotary_tables(shape.context, shape.head_dim)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)
        self._initialise(preset)

    def _initialise(self, preset: Preset) -> None:
        """Normal with deviation 0.02; what writes to the residual stream smaller by sqrt(2 layers).

        The released code of the study shrinks the *up* projection (its w3) instead of the down projection: the
        `paper` preset does the same, `modern` shrinks the one that writes to the stream.
        """
        small = INIT_STD / math.sqrt(2 * self.shape.layers)
        nn.init.normal_(self.embedding.weight, std=INIT_STD)
        for block in self.blocks:
            assert isinstance(block, Block)
            for linear in (block.qkv, block.gate_up, block.down):
                nn.init.normal_(linear.weight, std=INIT_STD)
            nn.init.normal_(block.out.weight, std=small)
            shrunk = block.gate_up.weight[block.hidden :] if preset == "paper" else block.down.weight
            with torch.no_grad():
                shrunk.mul_(small / INIT_STD)

    @property
    def vocabulary(self) -> int:
        return self.shape.vocabulary

    @property
    def context(self) -> int:
        return self.shape.context

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def supports_shared_prefix(self) -> bool:
        return True

    def forward(
        self,
        tokens_BT: Tensor,
        attention_mask: Tensor | None = None,
        kv_cache: Sequence[KVCache] | None = None,
        position_ids_BT: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the next token at every position; T at most the context.

        `visible`: bool [B, 1, T, T], what each position attends to (see `same_document`); all before it when None.
        With the `past` of every layer the tokens follow those that it has read: any number at first, then one by one.
        `places_BT` and `at` are those of `model/protocol.py`.
        """
        start = kv_cache[0].read if kv_cache else 0
        places = slice(start, start + tokens_BT.shape[1])
        rotary = (self.rotary_cos[places], self.rotary_sin[places])
        if position_ids_BT is not None:
            rotary = (self.rotary_cos[position_ids_BT][:, None], self.rotary_sin[position_ids_BT][:, None])
        if attention_mask is not None and tokens_BT.device.type == "cpu":  # once, not in every layer
            attention_mask = torch.zeros(attention_mask.shape).masked_fill(~attention_mask, -torch.inf)
        x_BTD = self.embedding(tokens_BT)
        for number, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, rotary, attention_mask, kv_cache[number] if kv_cache else None)
        if at is not None:
            x_BTD = x_BTD.flatten(0, 1)[at]
        return F.linear(_norm(x_BTD, self.norm), self.embedding.weight)


def rotary_tables(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [length, head_dim] (Su et al. 2021); number i is paired with i + head_dim/2."""
    frequencies = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return torch.cat([angles.cos()] * 2, dim=1), torch.cat([-angles.sin(), angles.sin()], dim=1)


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotary
    swapped = torch.roll(x, x.shape[-1] // 2, dims=-1)
    return x * cos + swapped * sin


def same_document(tokens_BT: Tensor, eos: int) -> Tensor:
    """bool [B, 1, T, T]: whether a position sees another: not later, and of the same document.

    An EOS among the inputs opens the document that follows it, as BOS does where a document is read by itself.
    """
    document = (tokens_BT == eos).cumsum(dim=1)
    same = document[:, None, :, None] == document[:, None, None, :]
    return same.tril()


def _causal_attention(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, attention_mask: Tensor | None
) -> Tensor:
    # Where there are fewer queries than keys it is one, the last, which sees every key.
    causal = attention_mask is None and q_BHTK.shape[2] == k_BHTK.shape[2]
    if q_BHTK.device.type != "cpu":
        return F.scaled_dot_product_attention(
            q_BHTK.to(v_BHTK.dtype), k_BHTK.to(v_BHTK.dtype), v_BHTK, attention_mask, is_causal=causal
        )
    # On CPUs the flash kernel is faster in bfloat16 than in float32 for long windows alone (docs/LOG.md).
    narrow = q_BHTK.shape[2] >= _LONG
    kind = v_BHTK.dtype if narrow else torch.float32
    with torch.autocast("cpu", enabled=False):  # which would cast down
        return F.scaled_dot_product_attention(
            q_BHTK.to(kind), k_BHTK.to(kind), v_BHTK.to(kind), attention_mask, is_causal=causal
        )


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, NORM_EPS)
