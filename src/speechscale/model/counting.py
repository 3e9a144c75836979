"""How large a model of another maker is, and what a token costs it: counted from the module itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from speechscale.records.flops import FLOPS_PER_PARAM_TOKEN, training_flops


@dataclass(frozen=True)
class Size:
    """Parameters by the conventions of `shape.py`, and the training FLOPs of a token."""

    params: int  # N: without embeddings, of tokens (in and out) and of positions
    params_total: int  # what input and output share counts once
    matrices: int  # of the products that every token takes part in, output projection included

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""
        return training_flops(self.params, tokens)

    def flops_exact(self, tokens: int, *, layers: int, dim: int, context: int) -> float:
        """Training FLOPs with causal attention and the output projection, as `ModelShape.flops_exact`."""
        return FLOPS_PER_PARAM_TOKEN * (self.matrices + layers * 2 * dim * (context + 1) / 2) * tokens


def size_of(model: nn.Module) -> Size:
    """Count a causal language model of transformers.

    Kaplan et al. (2020) leave out the embeddings of tokens and of positions; an output projection of its own is an
    embedding too (Pythia's authors count likewise).
    """
    total = sum(each.numel() for each in model.parameters())
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    output = model.get_output_embeddings()  # type: ignore[operator]
    embeddings = {id(weight): weight.numel() for weight in tables}
    if output is not None:
        embeddings |= {id(each): each.numel() for each in output.parameters()}
    inner = [each for each in model.parameters() if id(each) not in embeddings]
    matrices = sum(each.numel() for each in inner if each.ndim > 1)
    projection = output.weight.numel() if output is not None else 0
    return Size(sum(each.numel() for each in inner), total, matrices + projection)
