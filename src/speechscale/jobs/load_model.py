"""Models to be scored, whoever made them: which tokens they take for units, and which units these are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechscale.errors import UserError
from speechscale.jobs.train_run import check_same_units
from speechscale.records.shards import Shard, unigram_identity

if TYPE_CHECKING:
    import torch

    from speechscale.model.protocol import LanguageModel

_OFFICIAL, _SLAMKIT = "slm", "speech_language_model"  # model types in config.json
_HUB_FILES = ("*.json", "*.safetensors")


@dataclass(frozen=True)
class UnitModel:
    """A model, and how units are spelled to it: unit u is token u + offset."""

    name: str
    model: LanguageModel
    bos: int  # the token before the first
    end: int  # the closing token
    offset: int = 0
    kmeans: str | None = None  # SHA-256 of the code book, where the model says it
    unigram: str | None = None
    ours: bool = False  # then what it does not say is a fault

    def check_units(self, shards: list[Shard]) -> str | None:
        """A remark where nobody can know that the model speaks the units of the shards.

        Raises:
            UserError: it does not.
        """
        theirs = unigram_identity(shards[0])
        if self.unigram != theirs and (self.ours or self.unigram):
            raise UserError(
                f"{self.name}: was trained on other tokens than the shards hold; give them the model's with "
                "`speechscale unigram --model`, or units where it was trained on units."
            )
        if self.ours or self.kmeans:
            check_same_units(Path(self.name), self.kmeans, shards[0].preprocessing)
            return None
        return "the model does not say which code book its units are of, so the shards' is taken to be it"

    def spelled(self, units: np.ndarray) -> np.ndarray:
        """Units of a sample, its EOS included, as tokens."""
        return np.append(units[:-1].astype(np.int64) + self.offset, self.end)


def open_unit_model(source: str, device: torch.device, unit_offset: int | None = None) -> UnitModel:
    """A run of ours (its folder or its safetensors), the study's release (its folder or safetensors), or a causal
    language model of Hugging Face (a folder, or `owner/name@revision` of the hub).

    Raises:
        UserError: none of these, or one that does not say where its units begin.
    """
    path = Path(source)
    if not path.exists():
        path = _from_hub(source)
    folder = path.parent if path.is_file() else path
    config = _config(folder)
    kind = config.get("model_type")
    if not config:
        return _of_ours(source, path, device)
    if kind == _OFFICIAL or (kind == "llama" and "speechscale" in config):
        return _of_interchange(source, folder, device)
    return _of_hugging_face(source, folder, config, device, unit_offset)


def _of_ours(source: str, path: Path, device: torch.device) -> UnitModel:
    from speechscale.train.checkpoint import MODEL, load_model

    model, provenance = load_model(path / MODEL if path.is_dir() else path)
    eos = model.shape.eos
    return UnitModel(
        source, model.to(device), eos, eos, 0, provenance.get("kmeans"), provenance.get("unigram"), ours=True
    )


def _of_interchange(source: str, folder: Path, device: torch.device) -> UnitModel:
    from speechscale.model.interchange import import_model

    model, said = import_model(folder)
    eos = model.shape.eos
    return UnitModel(source, model.to(device), eos, eos, 0, said.get("kmeans"))


def _of_hugging_face(
    source: str, folder: Path, config: Mapping[str, Any], device: torch.device, unit_offset: int | None
) -> UnitModel:
    """slamkit puts PAD and <S> before the units, TWIST names an offset; of others it must be said."""
    from speechscale.model.hugging_face import load_causal_model, load_slamkit_model

    if config.get("model_type") == _SLAMKIT:
        base = config["base_config"]
        pad, bos, end = (base.get(f"{name}_token_id", usual) for name, usual in _SLAMKIT_SPECIALS)
        offset = max(pad, bos, end) + 1 if unit_offset is None else unit_offset
        return UnitModel(source, load_slamkit_model(folder, device), bos, end, offset)
    offset = config.get("offset") if unit_offset is None else unit_offset
    if not isinstance(offset, int):
        raise UserError(
            f"{source}: its config.json names no offset, so nobody knows which token unit 0 is; say it with "
            "--unit-offset."
        )
    named = [token for name in _ENDS if isinstance(token := config.get(name), int)]
    if not named:
        raise UserError(
            f"{source}: its config.json names no token that begins or ends a sequence (bos_token_id, eos_token_id)."
        )
    bos, end = named[0], named[-1]
    return UnitModel(source, load_causal_model(str(folder), None, device), bos, end, offset)


_ENDS = ("bos_token_id", "eos_token_id")  # where one is named alone, it is both
_SLAMKIT_SPECIALS = (("pad", 0), ("bos", 1), ("eos", 1))  # defaults of its UnitLMConfig


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: a JSON object is wanted.")
    return config


def on_hub(source: str) -> tuple[str, str]:
    """Name and revision of a model of the Hugging Face hub, `owner/name@revision`.

    Raises:
        UserError: no revision, which nobody should have to guess afterwards.
    """
    name, at, revision = source.rpartition("@")
    if not at or "/" not in name or not revision:
        raise UserError(
            f"{source}: no such folder or file; of the Hugging Face hub, owner/name@revision is wanted (@main says "
            "that the latest is meant), for a name alone may hold another model tomorrow."
        )
    return name, revision


def _from_hub(source: str) -> Path:
    name, revision = on_hub(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{source}: cannot be fetched from the Hugging Face hub ({str(error).strip().splitlines()[0]}); where "
            "it is out of reach, give a folder."
        ) from error
