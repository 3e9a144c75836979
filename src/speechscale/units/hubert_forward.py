"""The forward pass of HuBERT up to one hidden state, for batches of mixed lengths, without effects of padding.

Three parts of HuBERT mix information along time, and only through them can padding change a frame:

- the group norm of the first convolution, whose statistics are taken over the whole utterance;
- the positional convolution, which expects zeros beyond the end, but batch norm turns these into other values;
- attention.

Therefore the statistics are taken over valid samples only, padding is set to zero after batch norm, and attention is
masked. The convolutions have no padding of their own, so a valid frame depends on valid samples only.

Group norm is folded into the first convolution: the mean and variance of W x over time follow from the mean and the
covariance of the windows x (10 numbers each), which saves a pass over the largest activation of the network.
The other convolutions are matrix products over blocks of `stride` neighbouring frames, channels last: in bfloat16 on
a CPU five times as fast as `conv1d`, with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import HubertConfig, HubertModel

# Frames convolved at once on a CPU (2.6 s at 25 Hz): longer tiles exceed the cache, shorter ones repeat more work.
_CPU_TILE = 64

Function = Callable[[Tensor], Tensor]  # a module or an activation


def geometry(config: HubertConfig) -> tuple[int, int]:
    """Receptive field and stride of a frame, in samples: 720 and 640 for mHuBERT-25Hz."""
    field = 1
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        field = (field - 1) * stride + kernel
    return field, prod(config.conv_stride)


class HubertForward:
    """The forward pass of a `HubertModel`, which is changed and not usable afterwards."""

    def __init__(self, model: HubertModel, layer: int, device: torch.device, dtype: torch.dtype) -> None:
        """Take over the modules of a model.

        Args:
            model: in float32; changed in place.
            layer: index of the hidden state; 0 is the input of the first transformer layer.
            device: where to compute.
            dtype: of the matrix products, float32 or bfloat16.
        """
        config = model.config
        self.field, self.stride = geometry(config)
        self.dimension: int = config.hidden_size
        self.device, self.dtype = device, dtype
        # Frames convolved at once; None convolves the whole batch.
        self.tile = _CPU_TILE if device.type == "cpu" else None
        self.halo = -(-(self.field - self.stride) // self.stride)  # frames that a tile needs beyond its end
        modules: Any = model  # attributes of transformers' modules have no types
        modules.eval().requires_grad_(False)
        modules.to(device)
        first, *others = modules.feature_extractor.conv_layers
        self.first_conv: nn.Conv1d = first.conv
        self.first_norm: nn.GroupNorm | nn.LayerNorm = first.layer_norm
        self.first_activation: Function = first.activation
        self.has_group_norm: bool = config.feat_extract_norm == "group"
        self.convolutions = [_BlockConvolution(conv, dtype) for conv in others]
        self.projection_norm: Function | None = (
            modules.feature_projection.layer_norm if config.feat_proj_layer_norm else None
        )
        self.projection: nn.Linear = modules.feature_projection.projection.to(dtype)
        positions = modules.encoder.pos_conv_embed
        self.position_conv: nn.Conv1d = positions.conv
        # Its weight norm computes the weight again at each access.
        self.position_weight = self.position_conv.weight.detach()
        self.position_batch_norm: Function | None = getattr(positions, "batch_norm", None)
        self.position_padding: Function = positions.padding
        self.position_activation: Function = positions.activation
        self.norm: Function | None = None if config.do_stable_layer_norm else modules.encoder.layer_norm
        self.layers = [
            _TransformerLayer(block, config.do_stable_layer_norm, dtype)
            for block in modules.encoder.layers[:layer]
        ]

    def frame_count(self, samples: int) -> int:
        """The number of frames of a waveform."""
        return max(0, (samples - self.field) // self.stride + 1)

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The hidden state of each waveform, float32 [frames, dimension]; each must be long enough for one frame."""
        counts = [self.frame_count(len(waveform)) for waveform in waveforms]
        hidden = self._project(self._convolve(waveforms, counts))
        valid = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        valid = valid.to(self.device)
        hidden = hidden + self._positional_convolution(hidden, valid)
        if self.norm is not None:
            hidden = self.norm(hidden)
        mask = None if min(counts) == max(counts) else valid[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return [frames[:count] for frames, count in zip(hidden.cpu().numpy(), counts, strict=True)]

    def _convolve(self, waveforms: Sequence[np.ndarray], counts: list[int]) -> Tensor:
        """Output of the convolutions, [waveforms, frames, channels]; unspecified beyond the frames of a waveform."""
        samples = self._pad(waveforms, max(counts))
        weight = self._first_weight(samples, [len(waveform) for waveform in waveforms])
        channels = self.convolutions[-1].channels
        output = torch.zeros(len(counts), max(counts), channels, dtype=self.dtype, device=self.device)
        for rows, start, end in self._tiles(counts):
            tile = samples[rows, start * self.stride : (end + self.halo) * self.stride + self._overhang]
            hidden = self._convolve_tile(tile, weight[rows])
            output[rows, start:end] = hidden.reshape(len(tile), -1, channels)[:, : end - start]
        return output

    def _tiles(self, counts: list[int]) -> Iterator[tuple[slice, int, int]]:
        """(waveforms, first frame, end) of each part that is convolved at once."""
        if self.tile is None:
            yield slice(None), 0, max(counts)
            return
        for row, count in enumerate(counts):
            for start in range(0, count, self.tile):
                yield slice(row, row + 1), start, min(start + self.tile, count)

    @property
    def _overhang(self) -> int:
        """Samples by which the last window of the first convolution exceeds its stride."""
        return self.first_conv.kernel_size[0] - self.first_conv.stride[0]

    def _pad(self, waveforms: Sequence[np.ndarray], frames: int) -> Tensor:
        """Waveforms padded to the length of `frames` frames. Samples after the last frame stay, for group norm."""
        length = (frames + self.halo) * self.stride + self._overhang
        length = max(length, *(len(waveform) for waveform in waveforms))
        samples = np.zeros((len(waveforms), length), dtype=np.float32)
        for row, waveform in zip(samples, waveforms, strict=True):
            row[: len(waveform)] = waveform
        return torch.from_numpy(samples).to(self.device)

    def _windows(self, samples: Tensor) -> Tensor:
        """Inputs of the first convolution, [waveforms, time, kernel]."""
        return samples.unfold(1, self.first_conv.kernel_size[0], self.first_conv.stride[0])

    def _first_weight(self, samples: Tensor, lengths: list[int]) -> Tensor:
        """Weight of the first convolution with the bias as last row, [waveforms, kernel + 1, channels].

        Group norm is folded in, so the weight differs between waveforms.
        """
        weight = self.first_conv.weight[:, 0]
        if not self.has_group_norm:
            bias = weight.new_zeros(len(weight)) if self.first_conv.bias is None else self.first_conv.bias
            return torch.cat([weight, bias[:, None]], dim=1).T.expand(len(lengths), -1, -1)
        norm = self.first_norm
        mean, covariance = self._window_statistics(samples, lengths)
        weight = weight.double()
        variance = torch.einsum("ck,bkj,cj->bc", weight, covariance, weight)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        bias = norm.bias - scale * (mean @ weight.T)  # group norm cancels the bias of the convolution
        return torch.cat([weight.T * scale[:, None, :], bias[:, None, :]], dim=1).float()

    def _window_statistics(self, samples: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Mean [waveforms, kernel] and covariance [waveforms, kernel, kernel] of the valid windows, in float64."""
        windows = self._windows(samples).double()
        kernel, stride = self.first_conv.kernel_size[0], self.first_conv.stride[0]
        count = torch.tensor([(length - kernel) // stride + 1 for length in lengths], device=self.device)
        valid = (torch.arange(windows.shape[1], device=self.device) < count[:, None])[:, :, None]
        mean = (windows * valid).sum(dim=1) / count[:, None]
        centred = (windows - mean[:, None]) * valid
        return mean, centred.transpose(1, 2) @ centred / count[:, None, None]

    def _convolve_tile(self, samples: Tensor, first_weight: Tensor) -> Tensor:
        """All convolutions over consecutive samples, [waveforms × (frames + halo), channels].

        The first is computed in float32, which costs little there and keeps the waveform's resolution.
        """
        # The column of ones multiplies the bias in the last row of the weight.
        hidden = F.pad(self._windows(samples), (0, 1), value=1.0) @ first_weight
        if not self.has_group_norm:
            hidden = self.first_norm(hidden)
        hidden = self.first_activation(hidden).to(self.dtype).flatten(0, 1)
        for convolution in self.convolutions:
            hidden = convolution(hidden)
        return hidden

    def _project(self, hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        if self.projection_norm is not None:
            hidden = self.projection_norm(hidden)
        projected: Tensor = self.projection(hidden.to(self.dtype))
        return projected.float()

    def _positional_convolution(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """[batch, frames, dimension] in float32, without TensorFloat-32, which would lose exactness."""
        conv = self.position_conv
        hidden = hidden.transpose(1, 2)
        if self.position_batch_norm is not None:
            hidden = self.position_batch_norm(hidden)
        hidden = hidden.masked_fill(~valid[:, None], 0.0)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            hidden = F.conv1d(
                hidden, self.position_weight, conv.bias, padding=conv.padding, groups=conv.groups
            )
        return self.position_activation(self.position_padding(hidden)).transpose(1, 2)


class _BlockConvolution:
    """An unpadded convolution as matrix products over blocks of `stride` frames, one per block of its kernel."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        conv: nn.Conv1d = layer.conv
        self.channels = conv.out_channels
        self.width = conv.stride[0] * conv.in_channels
        taps = conv.weight.permute(2, 1, 0).flatten(0, 1).to(dtype)  # [kernel × channels in, channels out]
        self.weights = [taps[start : start + self.width] for start in range(0, len(taps), self.width)]
        self.bias = None if conv.bias is None else conv.bias.to(dtype)
        self.norm: Function | None = getattr(layer, "layer_norm", None)
        self.activation: Function = layer.activation

    def __call__(self, hidden: Tensor) -> Tensor:
        """[time, channels] to [time / stride, channels]; the last windows may be incomplete and must be ignored."""
        blocks = hidden.reshape(-1, self.width)
        output = blocks[:, : len(self.weights[0])] @ self.weights[0]
        for offset, weight in enumerate(self.weights[1:], start=1):
            output[:-offset].addmm_(blocks[offset:, : len(weight)], weight)
        if self.bias is not None:
            output += self.bias
        if self.norm is not None:
            output = self.norm(output.float()).to(output.dtype)
        return self.activation(output)


class _TransformerLayer:
    """Attention and feed-forward, with norms after them (base) or before them (`do_stable_layer_norm`).

    The residual stream and the norms stay in float32; the products are computed in `dtype`.
    """

    def __init__(self, layer: Any, norm_first: bool, dtype: torch.dtype) -> None:
        attention = layer.attention
        self.norm_first, self.dtype = norm_first, dtype
        self.heads: int = attention.num_heads
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv_weight = torch.cat([projection.weight for projection in projections]).to(dtype)
        self.qkv_bias = torch.cat([projection.bias for projection in projections]).to(dtype)
        self.output_projection: Function = attention.out_proj.to(dtype)
        self.feed_forward: Function = layer.feed_forward.to(dtype)
        self.attention_norm: Function = layer.layer_norm
        self.final_norm: Function = layer.final_layer_norm
        self.adapter: Function | None = getattr(layer, "adapter_layer", None)

    def __call__(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        if not self.norm_first:
            hidden = self.attention_norm(hidden + self._attend(hidden, mask))
            return self.final_norm(hidden + self.feed_forward(hidden.to(self.dtype)))
        hidden = hidden + self._attend(self.attention_norm(hidden), mask)
        hidden = hidden + self.feed_forward(self.final_norm(hidden).to(self.dtype))
        return hidden if self.adapter is None else hidden + self.adapter(hidden)

    def _attend(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        qkv = F.linear(hidden.to(self.dtype), self.qkv_weight, self.qkv_bias)
        qkv = qkv.reshape(*qkv.shape[:-1], 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output_projection(attended.transpose(1, 2).flatten(2))
