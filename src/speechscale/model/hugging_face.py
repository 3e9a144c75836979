"""Causal language models of Hugging Face, from a folder or a revision of the hub, behind the protocol of ours."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from speechscale.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNBOUNDED = 2048  # context of models that have no longest one; they read longer texts in windows, too
_TRIED = 256  # tokens; no less than the window of GPT-Neo, whose configuration says it in a word of its own


class HuggingFaceModel:
    """A `LanguageModel` (see `protocol.py`) around a module of transformers."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module.eval()
        config = module.config.get_text_config()
        self.vocabulary: int = config.vocab_size
        told = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        self.context: int = next(filter(None, told), _UNBOUNDED)
        takes = inspect.signature(module.forward).parameters
        # A mask of ours would replace one that hides what is long past.
        may_fork = "position_ids" in takes and getattr(config, "sliding_window", None) is None
        self.supports_shared_prefix = may_fork and self._goes_on_in_two_ways()

    @property
    def device(self) -> torch.device:
        return self.module.device

    @torch.inference_mode()
    def _goes_on_in_two_ways(self) -> bool:
        """Whether a second branch is read as if the first were not there: it is not where a state is carried from token
        to token (Mamba, Jamba), or where distances are counted in the row (windows of GPT-Neo)."""
        trunk, between = min(_TRIED, self.context // 2), min(_TRIED // 4, self.context // 2)
        seeded = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (1, trunk + between + 1), generator=seeded).to(self.device)
        attention_mask = torch.ones(1, 1, *2 * tokens.shape[1:], dtype=torch.bool, device=self.device).tril()
        attention_mask[..., -1, trunk:-1] = False
        position_ids_BT = torch.arange(tokens.shape[1], device=self.device)[None]
        position_ids_BT[:, -1] = trunk
        last = torch.tensor([tokens.shape[1] - 1], device=self.device)
        try:
            forked = self(tokens, attention_mask=attention_mask, position_ids_BT=position_ids_BT, at=last)
        except (IndexError, RuntimeError, TypeError, ValueError):  # of modules that take no such mask
            return False
        alone = self(torch.cat([tokens[:, :trunk], tokens[:, -1:]], dim=1), at=torch.tensor([trunk]).to(last))
        return bool((forked - alone).abs().max() <= 1e-3 * alone.abs().max())

    def __call__(
        self,
        tokens_BT: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids_BT: Tensor | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        given = {} if position_ids_BT is None else {"position_ids": position_ids_BT}
        if (
            attention_mask is not None
        ):  # added to the attention scores, which every implementation of attention understands
            mask = torch.zeros(attention_mask.shape, dtype=self.module.dtype, device=attention_mask.device)
            given["attention_mask"] = mask.masked_fill(~attention_mask, torch.finfo(mask.dtype).min)
        output = self.module.get_output_embeddings()
        if at is None or output is None:
            logits = self.module(input_ids=tokens_BT, use_cache=False, **given).logits
            return logits if at is None else logits.flatten(0, 1)[at]
        # The output projection sees the wanted positions alone: of a large vocabulary it is much of the work.
        chosen = output.register_forward_pre_hook(lambda _, states: (states[0].flatten(0, 1)[at],))
        try:
            return self.module(input_ids=tokens_BT, use_cache=False, **given).logits
        finally:
            chosen.remove()


def open_slamkit(folder: Path, device: torch.device) -> HuggingFaceModel:
    """A `UnitLM` of slamkit: the configuration of a causal language model inside its own, its weights under `lm.`.

    Raises:
        UserError: another layout, or weights that are missing.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from speechscale.model.interchange import read_weights

    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        base = told["base_config"] | {"vocab_size": told["vocab_size"]}
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(**base), dtype=torch.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'config.json'}: not the configuration of a slamkit model ({error!r})."
        ) from error
    weights = {name.removeprefix("lm."): value.float() for name, value in read_weights(folder).items()}
    own = module.state_dict()
    tied = {
        name for name, value in own.items() if name not in weights and _is_tied(name, value, own, weights)
    }
    problems = sorted(
        name for name in own.keys() - tied if name not in weights or weights[name].shape != own[name].shape
    )
    if problems:
        raise UserError(
            f"{folder}: {len(problems)} weights are missing or of another size, the first {problems[0]}."
        )
    module.load_state_dict(weights, strict=False)
    return HuggingFaceModel(module.to(device))


def _is_tied(name: str, value: Tensor, own: dict[str, Tensor], weights: dict[str, Tensor]) -> bool:
    """Whether a weight is another one, which is given, by another name."""
    return any(
        other in weights and each.data_ptr() == value.data_ptr()
        for other, each in own.items()
        if other != name
    )


def silence() -> None:
    """Let the libraries show no bars and warnings of their own: what is wrong is told in one sentence."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def open_causal_model(model: str, revision: str | None, device: torch.device) -> HuggingFaceModel:
    """Load a model in float32, without running code that comes with it. Weights are safetensors, or a `.bin` from which
    tensors alone are taken.

    Raises:
        UserError: no such model, or no causal language model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    silence()
    name = f"{model}@{revision}" if revision else model
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision,
            trust_remote_code=False,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, in one sentence
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:  # what unusable files raise
        raise UserError(
            f"{name}: cannot be opened as a causal language model ({str(error).strip().splitlines()[0]}); a folder of "
            "transformers or an id of its hub is wanted, and where the hub is out of reach, a folder."
        ) from error
    module, loading = loaded
    absent = sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if absent:  # transformers would fill them at random
        raise UserError(
            f"{name}: {len(absent)} of its weights are missing or of another size than its config.json says, the first "
            f"{absent[0]}; is it the whole of a causal language model?"
        )
    return HuggingFaceModel(module.to(device))
