"""Speech synthesis by Kokoro-82M: samples are a function of (text, voice, rate, seed) alone, on the same hardware.

The `kokoro` package (`pip install kokoro`) provides the network and the conversion of spelling to phonemes. Weights,
voices and configuration are those published as hexgrad/Kokoro-82M at one revision. They are read from the folder that
the environment variable `SPEECHSCALE_KOKORO` names, else from the hub. The checkpoint is a pickle: its SHA-256 is
checked first, and torch then reads nothing but tensors from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import soxr

from speechscale.compute import choose_device
from speechscale.errors import SampleFault, UserError
from speechscale.records.manifest import SAMPLE_RATE, Synthesis
from speechscale.records.seal import sha256_file

FOLDER_VARIABLE = "SPEECHSCALE_KOKORO"  # environment variable: a folder with the published files
REPOSITORY, REVISION = "hexgrad/Kokoro-82M", "f3ff3571791e39611d31c381e3a41a3af07b4987"
CHECKPOINT, SHA256 = "kokoro-v1_0.pth", "496dba118d1a58f5f3db2efc88dbdc216e0483fc89fe6e47ee1f2c53f18ad1e4"
_KOKORO_RATE = 24_000  # Hz
_NATURAL_RATE = 175  # words per minute that are taken for Kokoro's own rate; espeak-ng's default
_MAX_PHONEMES = 510  # of a phrase; the package silently cuts off the rest


class KokoroEngine:
    """The network of Kokoro and the voices that were requested so far. A context manager."""

    def __init__(self, folder: Path | None = None, sha256: str = SHA256) -> None:
        """Load the network.

        Args:
            folder: holds `kokoro-v1_0.pth`, `config.json` and `voices/`; None: `SPEECHSCALE_KOKORO`, else the hub.
            sha256: of the checkpoint.

        Raises:
            UserError: the package or a file is missing, or the checkpoint has another SHA-256.
        """
        try:
            import torch
            from kokoro import KModel, KPipeline
        except ImportError as error:
            raise UserError(
                f"the engine kokoro needs packages that are not installed ({error}): pip install kokoro."
            ) from error
        self.folder = folder or (Path(os.environ[FOLDER_VARIABLE]) if FOLDER_VARIABLE in os.environ else None)
        checkpoint = self._required_file(CHECKPOINT)
        if (found := sha256_file(checkpoint)) != sha256:
            raise UserError(f"{checkpoint}: its SHA-256 is {found}, wanted {sha256}; fetch it again.")
        model = KModel(REPOSITORY, config=str(self._required_file("config.json")), model=str(checkpoint))
        self._torch = torch
        self._model = model.to(choose_device()).eval()
        self._pipeline_class = KPipeline
        self._pipelines: dict[str, Any] = {}  # by language: spelling to phonemes
        self._voices: dict[str, Any] = {}  # by name: style tensors, float32 [phonemes, 1, style]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing to close: the memory is freed with the object."""

    def synthesize_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """The waveform of each text in order, float32 [samples], mono at 16 kHz; a fault where synthesis fails."""
        for text, settings in requests:
            try:
                yield self.synthesize(text, settings)
            except SampleFault as fault:
                yield fault

    def synthesize(self, text: str, settings: Synthesis) -> np.ndarray:
        """The waveform of a text, float32 [samples], mono at 16 kHz.

        Raises:
            SampleFault: unknown voice, a text without phonemes, or a phrase of too many.
        """
        style = self._style(settings.voice)
        phrases = [text] if settings.phonemes else self._phonemize(text, settings.voice[0])
        phrases = self._pronounceable(phrases, text)
        with self._torch.random.fork_rng(), self._torch.no_grad():
            self._torch.manual_seed(settings.seed)  # the vocoder draws noise and phase
            # A voice is a table of styles, one for each number of phonemes.
            speed = settings.words_per_minute / _NATURAL_RATE
            parts = [self._model(phrase, style[len(phrase) - 1], speed).float().cpu() for phrase in phrases]
        samples = np.concatenate([np.atleast_1d(part.numpy()) for part in parts])
        if not np.isfinite(samples).all() or not samples.any():
            raise SampleFault("inaudible", f"nothing audible in {text!r}")
        waveform: np.ndarray = soxr.resample(samples, _KOKORO_RATE, SAMPLE_RATE)
        return waveform

    def _pronounceable(self, phrases: list[str], text: str) -> list[str]:
        """The phrases that hold phonemes of the model.

        Raises:
            SampleFault: there is none, or one is too long.
        """
        pronounceable = [
            phrase for phrase in phrases if any(phoneme in self._vocabulary for phoneme in phrase)
        ]
        if not pronounceable:
            raise SampleFault("inaudible", f"nothing audible in {text!r}")
        if (longest := max(map(len, pronounceable))) >= _MAX_PHONEMES:
            raise SampleFault(
                "too long",
                f"{longest} phonemes in one phrase, Kokoro takes {_MAX_PHONEMES - 1}: {text[:60]!r} …",
            )
        return pronounceable

    @cached_property
    def _vocabulary(self) -> set[str]:
        """The phonemes of the model, without its punctuation."""
        symbols = self._model.vocab
        return {symbol for symbol in symbols if not symbol.isspace() and symbol not in ';:,.!?—…"()“”'}

    def _phonemize(self, text: str, language: str) -> list[str]:
        """The phonemes of a text, phrase by phrase. The language is the first letter of a voice."""
        if language not in self._pipelines:
            self._pipelines[language] = self._pipeline_class(language, repo_id=REPOSITORY, model=False)
        return [phrase.phonemes for phrase in self._pipelines[language](text)]

    def _style(self, name: str) -> Any:
        """The style tensor of a voice."""
        if name not in self._voices:
            is_well_formed = re.fullmatch(r"[a-z]{2}_[a-z0-9]+", name)  # so that the path stays in its folder
            path = self._file(f"voices/{name}.pt") if is_well_formed else None
            if path is None:
                raise SampleFault("not spoken", f"Kokoro has no voice {name!r}")
            style = self._torch.load(path, map_location="cpu", weights_only=True)
            self._voices[name] = style.to(self._model.device)
        return self._voices[name]

    def _required_file(self, name: str) -> Path:
        path = self._file(name)
        if path is None:
            raise UserError(
                f"{self.folder or REPOSITORY}: holds no {name}; {FOLDER_VARIABLE} must name a copy of {REPOSITORY}."
            )
        return path

    def _file(self, name: str) -> Path | None:
        """The path of a published file; None when there is no such file."""
        if self.folder is None:
            return _from_hub(name)
        path = self.folder / name
        return path if path.is_file() else None


def _from_hub(name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(REPOSITORY, name, revision=REVISION))
    except LocalEntryNotFoundError as error:  # neither in the cache nor to be fetched
        raise UserError(
            f"{REPOSITORY}: {name} cannot be fetched from the hub; fetch the repository elsewhere and let "
            f"{FOLDER_VARIABLE} name the folder."
        ) from error
    except EntryNotFoundError:
        return None
