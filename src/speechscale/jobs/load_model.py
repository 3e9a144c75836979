"""Loading of unit language models from any source, with the tokens that stand for units and the units' codebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechscale.errors import UserError
from speechscale.model.shape import TrainingPreset
from speechscale.records.json_objects import read_json_object
from speechscale.records.scores import Convention, SpecialTokens
from speechscale.records.shards import Shard, unigram_identity

if TYPE_CHECKING:
    import torch

    from speechscale.model.protocol import LanguageModel

_OFFICIAL, _SLAMKIT = "slm", "speech_language_model"  # model types in config.json
_HUB_FILES = ("*.json", "*.safetensors")
_ENDS = ("bos_token_id", "eos_token_id")  # where one is missing, the other has both roles
_SLAMKIT_SPECIALS = (("pad", 0), ("bos", 1), ("eos", 1))  # defaults of its UnitLMConfig


@dataclass(frozen=True)
class UnitModel:
    """A language model over units; unit u is token u + offset."""

    name: str  # as the user named it
    model: LanguageModel
    bos: int  # the token before the first unit
    eos: int  # the closing token
    offset: int = 0
    kmeans: str | None = None  # SHA-256 of the codebook, where the model records it
    unigram: str | None = None  # SHA-256 of the unigram model, where the model records it
    is_run: bool = False  # a run of this project, which must record its units
    preset: TrainingPreset = "paper"  # of the initialisation of our own models

    def require_same_units(self, shards: list[Shard]) -> str | None:
        """Check that the model was trained on the units of shards.

        Returns:
            A warning where the model does not record its units; else None.

        Raises:
            UserError: the model was trained on other units.
        """
        unigram = unigram_identity(shards[0])
        if self.unigram != unigram and (self.is_run or self.unigram):
            raise UserError(
                f"{self.name}: was trained on other tokens than the shards hold; tokenize them with the "
                "model of the run (`speechscale unigram --model`), or give shards of units if it was trained on units."
            )
        if self.is_run or self.kmeans:
            require_same_units(Path(self.name), self.kmeans, shards[0].preprocessing)
            return None
        return "the model does not record the codebook of its units; that of the shards is assumed"

    def special_tokens(self, convention: Convention) -> SpecialTokens:
        """The tokens around every sequence that is scored by a convention."""
        bos = self.bos if convention.bos else None
        return SpecialTokens(before_first=bos, closing=self.eos, unit_0=self.offset)

    def to_token_ids(self, units: np.ndarray) -> np.ndarray:
        """Token ids, int64 [units], of the units of a sample, its EOS included."""
        return np.append(units[:-1].astype(np.int64) + self.offset, self.eos)


def require_same_units(model: Path, codebook_sha256: str | None, encoding: Mapping[str, Any]) -> None:
    """Check that a model was trained on units of the codebook that shards were encoded with.

    Shards and model may both lack the hash of their codebook; such a pair passes.

    Args:
        model: path of the model, for error messages.
        codebook_sha256: SHA-256 of the codebook of the model's units; None where the model does not record it.
        encoding: `preprocessing` of the shards.

    Raises:
        UserError: the codebooks differ, or only one of the two is known.
    """
    theirs = encoding["kmeans"]["sha256"]
    if theirs == codebook_sha256:
        return
    if codebook_sha256 is None:
        raise UserError(
            f"{model}: does not record the codebook of its units; `speechscale import` it again with "
            f"--code-book (the shards': {str(theirs)[:12]}…)."
        )
    raise UserError(
        f"{model}: was trained on units of another codebook ({codebook_sha256[:12]}…) than the shards' "
        f"({str(theirs)[:12]}…); encode them with the model's."
    )


def open_model_for_shards(
    source: str, folders: Sequence[list[Shard]], unit_offset: int | None = None
) -> tuple[UnitModel, list[str]]:
    """Open a model on the default device to read the units of shards.

    Args:
        source: see `open_unit_model`.
        folders: opened folders of shards.
        unit_offset: token of unit 0, for Hugging Face models whose config.json does not name it.

    Returns:
        The model, and warnings where it does not record its units.

    Raises:
        UserError: no model, or one that was trained on other units.
    """
    from speechscale.compute import choose_device

    model = open_unit_model(source, choose_device(), unit_offset)
    warnings = {warning for shards in folders if (warning := model.require_same_units(shards))}
    return model, sorted(warnings)


def open_unit_model(source: str, device: torch.device, unit_offset: int | None = None) -> UnitModel:
    """Open a run, the release of the study, or a causal language model of Hugging Face over units.

    Args:
        source: folder or safetensors of a run or of the release; for Hugging Face a folder, or `owner/name@revision`.
        device: where the weights go.
        unit_offset: token of unit 0, for Hugging Face models whose config.json does not name it.

    Raises:
        UserError: none of these, or a model that does not say where its units begin.
    """
    path = Path(source)
    if not path.exists():
        path = _download(source)
    folder = path.parent if path.is_file() else path
    config_file = folder / "config.json"
    config = read_json_object(config_file) if config_file.exists() else {}
    kind = config.get("model_type")
    if not config:
        return _open_run(source, path, device)
    if kind == _OFFICIAL or (kind == "llama" and "speechscale" in config):
        return _open_interchange(source, folder, device)
    return _open_hugging_face(source, folder, config, device, unit_offset)


def _open_run(source: str, path: Path, device: torch.device) -> UnitModel:
    from speechscale.train.checkpoint import MODEL, load_model

    model, provenance = load_model(path / MODEL if path.is_dir() else path)
    eos = model.shape.eos
    return UnitModel(
        source,
        model.to(device),
        eos,
        eos,
        0,
        provenance.kmeans,
        provenance.unigram,
        is_run=True,
        preset="modern" if provenance.spec.get("preset") == "modern" else "paper",
    )


def _open_interchange(source: str, folder: Path, device: torch.device) -> UnitModel:
    from speechscale.model.interchange import import_model

    model, units = import_model(folder)
    eos = model.shape.eos
    return UnitModel(source, model.to(device), eos, eos, 0, units.kmeans)


def _open_hugging_face(
    source: str, folder: Path, config: Mapping[str, Any], device: torch.device, unit_offset: int | None
) -> UnitModel:
    """Slamkit puts PAD and <S> before the units, TWIST names an offset; other models need `unit_offset`."""
    from speechscale.model.hugging_face import load_causal_model, load_slamkit_model

    if config.get("model_type") == _SLAMKIT:
        base = config["base_config"]
        pad, bos, eos = (base.get(f"{name}_token_id", default) for name, default in _SLAMKIT_SPECIALS)
        offset = max(pad, bos, eos) + 1 if unit_offset is None else unit_offset
        return UnitModel(source, load_slamkit_model(folder, device), bos, eos, offset)
    offset = config.get("offset") if unit_offset is None else unit_offset
    if not isinstance(offset, int):
        raise UserError(
            f"{source}: its config.json names no offset, so the token of unit 0 is unknown; give it with "
            "--unit-offset."
        )
    named = [token for name in _ENDS if isinstance(token := config.get(name), int)]
    if not named:
        raise UserError(
            f"{source}: its config.json names no token that begins or ends a sequence (bos_token_id, eos_token_id)."
        )
    bos, eos = named[0], named[-1]
    return UnitModel(source, load_causal_model(str(folder), None, device), bos, eos, offset)


def parse_hub_id(source: str) -> tuple[str, str]:
    """Name and revision of `owner/name@revision`, a model on the Hugging Face hub.

    Raises:
        UserError: not of this form. A name without a revision may hold another model tomorrow.
    """
    name, at, revision = source.rpartition("@")
    if not at or "/" not in name or not revision:
        raise UserError(
            f"{source}: no such folder or file; for a model of the Hugging Face hub, owner/name@revision is wanted "
            "(@main for the latest), because a name alone may hold another model tomorrow."
        )
    return name, revision


def _download(source: str) -> Path:
    name, revision = parse_hub_id(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{source}: cannot be fetched from the Hugging Face hub ({str(error).strip().splitlines()[0]}); without "
            "access to it, give a folder."
        ) from error
