"""Parameters and training FLOPs of a foreign model, counted from its module."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from speechscale.model.shape import exact_training_flops
from speechscale.records.flops import training_flops


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by the conventions of `shape.py`.

    Attributes:
        params: N, without the embeddings of tokens (input and output) and positions.
        params_total: all parameters; those that input and output share count once.
        matmul_params: parameters of the matrix products that every token takes part in, output projection included.
        layers: number of layers.
        dim: width of the residual stream.
        context: tokens of a training window.
    """

    params: int
    params_total: int
    matmul_params: int
    layers: int
    dim: int
    context: int

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""
        return training_flops(self.params, tokens)

    def flops_exact(self, tokens: int) -> float:
        """Training FLOPs of every matrix product, as `exact_training_flops` counts them."""
        return exact_training_flops(
            self.matmul_params, layers=self.layers, dim=self.dim, context=self.context, tokens=tokens
        )


def count_parameters(model: nn.Module, context: int) -> ParameterCounts:
    """Count the parameters of a causal language model of transformers, trained on windows of `context` tokens.

    Kaplan et al. (2020) leave out the embeddings of tokens and positions. An untied output projection is an embedding
    too, by the count of Pythia's authors.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    projection = model.get_output_embeddings()  # type: ignore[operator]
    if projection is not None:
        embeddings |= {id(parameter) for parameter in projection.parameters()}
    inner = [parameter for parameter in model.parameters() if id(parameter) not in embeddings]
    matmul = sum(parameter.numel() for parameter in inner if parameter.ndim > 1)
    output = projection.weight.numel() if projection is not None else 0
    config = model.config.get_text_config()  # type: ignore[operator, union-attr]
    return ParameterCounts(
        params=sum(parameter.numel() for parameter in inner),
        params_total=total,
        matmul_params=matmul + output,
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        context=context,
    )
