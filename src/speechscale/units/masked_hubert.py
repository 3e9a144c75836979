"""The forward pass of a HuBERT up to one hidden state, in batches of mixed lengths that give what each gives alone.

Three things of HuBERT look along time, and padding would reach a frame only through them:

- the group norm of the first convolution, whose statistics run over the whole utterance;
- the positional convolution, which expects silence beyond the end, but meets what batch norm makes of silence;
- attention.

So the statistics are those of the valid time alone, padding is silenced after batch norm, and attention is masked.
The convolutions have no padding of their own: a valid frame never sees beyond the valid samples.

Group norm is folded into the first convolution: the mean and variance of W x over time follow from the mean and the
covariance of the windows x (10 numbers each), so that the largest activation of the network is not passed over again.
The other convolutions are matrix products over blocks of `stride` neighbouring frames, channels last: in bfloat16 on a
CPU five times as fast as the same convolution, and the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import HubertConfig, HubertModel

# Frames convolved in one go on a CPU (2.6 s at 25 Hz): longer tiles fall out of the cache, shorter ones repeat more.
_CPU_TILE = 64


def geometry(config: HubertConfig) -> tuple[int, int]:
    """Samples that the first frame sees, and samples from one frame to the next: 720 and 640 for mHuBERT-25Hz."""
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return field, prod(config.conv_stride)


class MaskedHubert:
    """A `HubertModel`, taken apart; what it keeps of it is changed, so the model is not to be used again."""

    def __init__(self, model: HubertModel, layer: int, device: torch.device, dtype: torch.dtype) -> None:
        config = model.config
        self.field, self.stride = geometry(config)
        self.dimension: int = config.hidden_size
        self.device, self.dtype = device, dtype
        self.tile = (
            _CPU_TILE if device.type == "cpu" else None
        )  # frames convolved at once; None: the whole batch
        self.halo = -(-(self.field - self.stride) // self.stride)  # frames a tile needs beyond its last
        model.eval().requires_grad_(False)
        nn.Module.to(model, device)
        first, *others = model.feature_extractor.conv_layers
        self.first, self.grouped = first, config.feat_extract_norm == "group"
        self.convolutions = [_BlockConvolution(conv, dtype) for conv in others]
        self.projection = model.feature_projection
        self.projection.projection.to(dtype)
        self.position = model.encoder.pos_conv_embed
        self.position_weight = self.position.conv.weight.detach()  # made anew from its norm at each access
        self.norm = None if config.do_stable_layer_norm else model.encoder.layer_norm
        self.layers = [
            _TransformerLayer(block, config.do_stable_layer_norm, dtype)
            for block in model.encoder.layers[:layer]
        ]

    def frames(self, samples: int) -> int:
        """How many frames so many samples give."""
        return max(0, (samples - self.field) // self.stride + 1)

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The hidden state of each waveform, float32 [frames, dimension]; each must be long enough for one frame."""
        counts = [self.frames(len(waveform)) for waveform in waveforms]
        hidden = self._project(self._convolve(waveforms, counts))
        valid = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        valid = valid.to(self.device)
        hidden = hidden + self._positions(hidden, valid)
        if self.norm is not None:
            hidden = self.norm(hidden)
        mask = None if min(counts) == max(counts) else valid[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return [found[:count] for found, count in zip(hidden.cpu().numpy(), counts, strict=True)]

    def _convolve(self, waveforms: Sequence[np.ndarray], counts: list[int]) -> Tensor:
        """What the convolutions make of each waveform, [waveforms, frames, channels]; zero beyond its own frames."""
        samples = self._padded(waveforms, max(counts))
        first = self._first_convolution(samples, [len(waveform) for waveform in waveforms])
        channels = self.convolutions[-1].channels
        found = torch.zeros(len(counts), max(counts), channels, dtype=self.dtype, device=self.device)
        for rows, start, end in self._tiles(counts):
            piece = samples[rows, start * self.stride : (end + self.halo) * self.stride + self._overhang]
            hidden = self._tile(piece, first[rows])
            found[rows, start:end] = hidden.unflatten(0, (len(piece), -1))[:, : end - start]
        return found

    def _tiles(self, counts: list[int]) -> Iterator[tuple[slice, int, int]]:
        """(waveforms, first frame, end) of what is convolved at once."""
        if self.tile is None:
            yield slice(None), 0, max(counts)
            return
        for row, count in enumerate(counts):
            for start in range(0, count, self.tile):
                yield slice(row, row + 1), start, min(start + self.tile, count)

    @property
    def _overhang(self) -> int:
        """Samples that the last window of the first convolution sees beyond its stride."""
        return self.first.conv.kernel_size[0] - self.first.conv.stride[0]

    def _padded(self, waveforms: Sequence[np.ndarray], frames: int) -> Tensor:
        """As many samples as that many frames need; a tail that gives no frame counts in the statistics."""
        length = (frames + self.halo) * self.stride + self._overhang
        length = max(length, *(len(waveform) for waveform in waveforms))
        samples = np.zeros((len(waveforms), length), dtype=np.float32)
        for row, waveform in zip(samples, waveforms, strict=True):
            row[: len(waveform)] = waveform
        return torch.from_numpy(samples).to(self.device)

    def _windows(self, samples: Tensor) -> Tensor:
        """What the first convolution sees, [waveforms, time, kernel]."""
        return samples.unfold(1, self.first.conv.kernel_size[0], self.first.conv.stride[0])

    def _first_convolution(self, samples: Tensor, lengths: list[int]) -> Tensor:
        """Its weight with the bias as last row, [waveforms, kernel + 1, channels]; group norm folded in."""
        weight = self.first.conv.weight[:, 0]
        if not self.grouped:
            bias = weight.new_zeros(len(weight)) if self.first.conv.bias is None else self.first.conv.bias
            return torch.cat([weight, bias[:, None]], dim=1).T.expand(len(lengths), -1, -1)
        norm = self.first.layer_norm
        mean, covariance = self._window_statistics(samples, lengths)
        weight = weight.double()
        variance = torch.einsum("ck,bkj,cj->bc", weight, covariance, weight)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        bias = norm.bias - scale * (mean @ weight.T)  # that of the convolution itself goes with the mean
        return torch.cat([weight.T * scale[:, None, :], bias[:, None, :]], dim=1).float()

    def _window_statistics(self, samples: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Mean [waveforms, kernel] and covariance [waveforms, kernel, kernel] of the valid windows, in float64."""
        windows = self._windows(samples).double()
        (kernel,), (stride,) = self.first.conv.kernel_size, self.first.conv.stride
        count = torch.tensor([(length - kernel) // stride + 1 for length in lengths], device=self.device)
        valid = (torch.arange(windows.shape[1], device=self.device) < count[:, None])[:, :, None]
        mean = (windows * valid).sum(dim=1) / count[:, None]
        centred = (windows - mean[:, None]) * valid
        return mean, centred.transpose(1, 2) @ centred / count[:, None, None]

    def _tile(self, samples: Tensor, first: Tensor) -> Tensor:
        """All convolutions over a stretch of samples, [waveforms × (frames + halo), channels].

        The first is computed in float32, which costs little there and keeps the waveform's resolution.
        """
        hidden = F.pad(self._windows(samples), (0, 1), value=1.0) @ first  # the 1 meets the bias
        if not self.grouped:
            hidden = self.first.layer_norm(hidden)
        hidden = self.first.activation(hidden).to(self.dtype).flatten(0, 1)
        for convolution in self.convolutions:
            hidden = convolution(hidden)
        return hidden

    def _project(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        if self.projection.feat_proj_layer_norm:
            hidden = self.projection.layer_norm(hidden)
        return self.projection.projection(hidden.to(self.dtype)).float()

    def _positions(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """The positional convolution [batch, frames, dimension], in float32: TensorFloat-32 would cost exactness."""
        conv = self.position.conv
        hidden = hidden.transpose(1, 2)
        if getattr(self.position, "batch_norm", None) is not None:
            hidden = self.position.batch_norm(hidden)
        hidden = hidden.masked_fill(~valid[:, None], 0.0)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            hidden = F.conv1d(
                hidden, self.position_weight, conv.bias, padding=conv.padding, groups=conv.groups
            )
        return self.position.activation(self.position.padding(hidden)).transpose(1, 2)


class _BlockConvolution:
    """A convolution without padding, as products of blocks of `stride` frames: one per started block of its kernel."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        conv = layer.conv
        self.channels = conv.out_channels
        self.width = conv.stride[0] * conv.in_channels
        taps = conv.weight.permute(2, 1, 0).flatten(0, 1).to(dtype)  # [kernel × channels in, channels out]
        self.weights = [taps[start : start + self.width] for start in range(0, len(taps), self.width)]
        self.bias = None if conv.bias is None else conv.bias.to(dtype)
        self.norm = getattr(layer, "layer_norm", None)
        self.activation = layer.activation

    def __call__(self, hidden: Tensor) -> Tensor:
        """[time, channels] to [time / stride, channels]; windows over the end see too little and are not to be used."""
        blocks = hidden.reshape(-1, self.width)
        found = blocks[:, : len(self.weights[0])] @ self.weights[0]
        for later, weight in enumerate(self.weights[1:], start=1):
            found[:-later].addmm_(blocks[later:, : len(weight)], weight)
        if self.bias is not None:
            found += self.bias
        if self.norm is not None:
            found = self.norm(found.float()).to(found.dtype)
        return self.activation(found)


class _TransformerLayer:
    """Attention and feed-forward, norms after (base) or before them (`do_stable_layer_norm`).

    The residual stream and the norms stay in float32, the products are computed in `dtype`.
    """

    def __init__(self, layer: Any, norm_first: bool, dtype: torch.dtype) -> None:
        attention = layer.attention
        self.layer, self.norm_first, self.dtype = layer, norm_first, dtype
        self.heads = attention.num_heads
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.weight = torch.cat([projection.weight for projection in projections]).to(dtype)
        self.bias = torch.cat([projection.bias for projection in projections]).to(dtype)
        attention.out_proj.to(dtype)
        layer.feed_forward.to(dtype)
        self.adapter = getattr(layer, "adapter_layer", None)

    def __call__(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        layer = self.layer
        if not self.norm_first:
            hidden = layer.layer_norm(hidden + self._attend(hidden, mask))
            return layer.final_layer_norm(hidden + layer.feed_forward(hidden.to(self.dtype)))
        hidden = hidden + self._attend(layer.layer_norm(hidden), mask)
        hidden = hidden + layer.feed_forward(layer.final_layer_norm(hidden).to(self.dtype))
        return hidden if self.adapter is None else hidden + self.adapter(hidden)

    def _attend(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        joined = F.linear(hidden.to(self.dtype), self.weight, self.bias)
        query, key, value = joined.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.layer.attention.out_proj(found.transpose(1, 2).flatten(2))
