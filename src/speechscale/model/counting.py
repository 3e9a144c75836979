"""Parameters and training FLOPs of a foreign model, counted from its module."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from speechscale.model.shape import exact_training_flops, training_flops


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by the conventions of `shape.py`.

    Attributes:
        params: N, without the embeddings of tokens (input and output) and positions.
        params_total: all parameters; those that input and output share count once.
        matmul_params: parameters of the matrix products that every token takes part in, output projection included.
    """

    params: int
    params_total: int
    matmul_params: int

    def flops(self, tokens: int) -> float:
        """Training FLOPs by the convention of the laws, 6 N D."""
        return training_flops(self.params, tokens)

    def flops_exact(self, tokens: int, *, layers: int, dim: int, context: int) -> float:
        """Training FLOPs of every matrix product.

        Args:
            tokens: tokens seen in training.
            layers: number of layers.
            dim: width of the residual stream.
            context: tokens of a training window.
        """
        return exact_training_flops(
            self.matmul_params, layers=layers, dim=dim, context=context, tokens=tokens
        )


def count_parameters(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a causal language model of transformers.

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
    return ParameterCounts(sum(parameter.numel() for parameter in inner), total, matmul + output)
