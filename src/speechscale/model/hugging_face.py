"""Causal language models of Hugging Face, from a folder or a revision of the hub, as a `LanguageModel`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechscale.errors import UserError
from speechscale.model.weight_files import CONFIG, read_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DEFAULT_CONTEXT = 2048  # of models without a maximum length; longer texts are scored in windows
# Tokens; at least the attention window of GPT-Neo, which has a configuration key of its own.
_PROBE_PREFIX = 256


class HuggingFaceModel:
    """A `LanguageModel` (see `protocol.py`) that wraps a module of transformers.

    Attributes:
        module: the module, in evaluation mode.
        vocabulary: number of tokens.
        context: maximum number of positions.
        supports_shared_prefix: whether one row can hold two suffixes of a prefix.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        """Wrap a module, and probe whether it computes shared prefixes exactly."""
        self.module = module
        self.module.train(False)
        config = module.config.get_text_config()
        self.vocabulary: int = config.vocab_size
        lengths = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        self.context: int = next(filter(None, lengths), _DEFAULT_CONTEXT)
        parameters = inspect.signature(module.forward).parameters
        # An explicit mask would replace the sliding window, so those models are excluded.
        accepts_mask = "position_ids" in parameters and getattr(config, "sliding_window", None) is None
        self.supports_shared_prefix = accepts_mask and self._is_shared_prefix_exact()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    @torch.inference_mode()
    def _is_shared_prefix_exact(self) -> bool:
        """Whether the logits of a second suffix are independent of the first suffix before it.

        They are not in models that carry a state from token to token (Mamba, Jamba), or that compute distances from
        positions in the row (attention windows of GPT-Neo).
        """
        prefix, suffix = min(_PROBE_PREFIX, self.context // 2), min(_PROBE_PREFIX // 4, self.context // 2)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (1, prefix + suffix + 1), generator=generator).to(self.device)
        attention_mask = torch.ones(1, 1, *2 * tokens.shape[1:], dtype=torch.bool, device=self.device).tril()
        attention_mask[..., -1, prefix:-1] = False
        position_ids_BT = torch.arange(tokens.shape[1], device=self.device)[None]
        position_ids_BT[:, -1] = prefix
        last = torch.tensor([tokens.shape[1] - 1], device=self.device)
        try:
            shared = self(
                tokens, attention_mask=attention_mask, position_ids_BT=position_ids_BT, positions_S=last
            )
        except (IndexError, RuntimeError, TypeError, ValueError):  # of modules that accept no such mask
            return False
        separate_tokens = torch.cat([tokens[:, :prefix], tokens[:, -1:]], dim=1)
        separate = self(separate_tokens, positions_S=torch.tensor([prefix]).to(last))
        return bool((shared - separate).abs().max() <= 1e-3 * separate.abs().max())

    def __call__(
        self,
        tokens_BT: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        positions_S: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token, as `LanguageModel.__call__` describes them."""
        inputs: dict[str, Tensor | bool] = {"input_ids": tokens_BT, "use_cache": False}
        if position_ids_BT is not None:
            inputs["position_ids"] = position_ids_BT
        if attention_mask is not None:
            # Additive, which every implementation of attention supports.
            mask = torch.zeros(attention_mask.shape, dtype=self.module.dtype, device=attention_mask.device)
            inputs["attention_mask"] = mask.masked_fill(~attention_mask, torch.finfo(mask.dtype).min)
        get_output_embeddings: Callable[[], nn.Module | None] = self.module.get_output_embeddings
        projection = get_output_embeddings()
        if positions_S is None or projection is None:
            logits: Tensor = self.module(**inputs).logits
            return logits if positions_S is None else logits.flatten(0, 1)[positions_S]
        # Project the selected positions only: with a large vocabulary the projection is much of the work.
        hook = projection.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[positions_S],))
        try:
            selected: Tensor = self.module(**inputs).logits
        finally:
            hook.remove()
        return selected


def load_slamkit_model(folder: Path, device: torch.device) -> HuggingFaceModel:
    """Load a `UnitLM` of slamkit.

    Its configuration contains that of a causal language model, and the names of its weights begin with `lm.`.

    Raises:
        UserError: another configuration, or missing weights.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        base = config["base_config"] | {"vocab_size": config["vocab_size"]}
        from_config: Any = AutoModelForCausalLM.from_config
        module = from_config(AutoConfig.for_model(**base), dtype=torch.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: not the configuration of a slamkit model ({error!r})."
        ) from error
    weights = {name.removeprefix("lm."): value.float() for name, value in read_weights(folder).items()}
    state = module.state_dict()
    tied = {name for name in state if name not in weights and _is_tied(name, state, weights)}
    problems = sorted(
        name
        for name in state.keys() - tied
        if name not in weights or weights[name].shape != state[name].shape
    )
    if problems:
        raise UserError(
            f"{folder}: {len(problems)} weights are missing or of another size, the first {problems[0]}."
        )
    module.load_state_dict(weights, strict=False)
    return HuggingFaceModel(module.to(device))


def _is_tied(name: str, state: dict[str, Tensor], weights: dict[str, Tensor]) -> bool:
    """Whether a parameter shares its memory with another one that `weights` contains."""
    return any(
        other in weights and value.data_ptr() == state[name].data_ptr()
        for other, value in state.items()
        if other != name
    )


def quiet_library_logs() -> None:
    """Turn off progress bars and warnings of transformers and huggingface_hub; errors become one `UserError`."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    calls: list[Callable[[], None]] = [
        logging.disable_progress_bar,
        logging.set_verbosity_error,
        hub_logging.set_verbosity_error,
    ]
    for call in calls:
        call()


def load_causal_model(model: str, revision: str | None, device: torch.device) -> HuggingFaceModel:
    """Load a model in float32 without running code from its repository.

    Weights are read from safetensors, or from a `.bin` of which only tensors are unpickled.

    Raises:
        UserError: no such model, or no causal language model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    quiet_library_logs()
    name = f"{model}@{revision}" if revision else model
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:  # of transformers, for unusable files
        raise UserError(
            f"{name}: cannot be opened as a causal language model ({str(error).strip().splitlines()[0]}); a folder of "
            "transformers or an id of its hub is wanted, and where the hub is out of reach, a folder."
        ) from error
    module, loading = loaded
    absent = sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if absent:  # transformers has initialised them at random
        raise UserError(
            f"{name}: {len(absent)} of its weights are missing or of another size than its config.json says, the first "
            f"{absent[0]}; is it the whole of a causal language model?"
        )
    return HuggingFaceModel(module.to(device))
