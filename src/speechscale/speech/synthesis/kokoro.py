"""Text to waveform by Kokoro-82M: samples are a function of (text, voice, rate, seed) alone, on the same hardware.

The `kokoro` package (`pip install kokoro`) brings the network and its spelling-to-phonemes. Weights, voices and config
are those published as hexgrad/Kokoro-82M at one revision: from the folder that the environment variable
`SPEECHSCALE_KOKORO` names, else from the hub. The checkpoint is a pickle: its SHA-256 is checked first, and torch then
reads nothing but tensors from it.
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

FOLDER = "SPEECHSCALE_KOKORO"  # environment variable: where the published files lie on this machine
REPOSITORY, REVISION = "hexgrad/Kokoro-82M", "f3ff3571791e39611d31c381e3a41a3af07b4987"
CHECKPOINT, SHA256 = "kokoro-v1_0.pth", "496dba118d1a58f5f3db2efc88dbdc216e0483fc89fe6e47ee1f2c53f18ad1e4"
_KOKORO_RATE = 24_000  # Hz
_NATURAL = 175  # words per minute that are taken for Kokoro's own pace; espeak-ng's default
_LONGEST = 510  # phonemes; the package cuts off what is beyond


class Kokoro:
    """The network, and the voices as they are asked for. Use as a context manager."""

    def __init__(self, folder: Path | None = None, sha256: str = SHA256) -> None:
        """`folder` holds `kokoro-v1_0.pth` (of this SHA-256), `config.json` and `voices/`; None: see above.

        Raises:
            UserError: the package or a file is missing, or the checkpoint is another.
        """
        try:
            import torch
            from kokoro import KModel, KPipeline
        except ImportError as error:
            raise UserError(
                f"the engine kokoro needs packages that are not installed ({error}): pip install kokoro."
            ) from error
        self.folder = folder or (Path(os.environ[FOLDER]) if FOLDER in os.environ else None)
        checkpoint = self._needed(CHECKPOINT)
        if (found := sha256_file(checkpoint)) != sha256:
            raise UserError(f"{checkpoint}: its SHA-256 is {found}, wanted {sha256}; fetch it again.")
        model = KModel(REPOSITORY, config=str(self._needed("config.json")), model=str(checkpoint))
        self._torch = torch
        self._model = model.to(choose_device()).eval()
        self._pipeline = KPipeline
        self._readers: dict[str, Any] = {}  # language: spelling to phonemes
        self._voices: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing to give back: memory goes with the object."""

    def speak_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """The answers in the order of the requests; mono float32 at 16 kHz."""
        for text, how in requests:
            try:
                yield self.speak(text, how)
            except SampleFault as fault:
                yield fault

    def speak(self, text: str, how: Synthesis) -> np.ndarray:
        """Mono float32 samples at 16 kHz.

        Raises:
            SampleFault: unknown voice, or a text without phonemes, or with too many that nothing separates.
        """
        voice = self._voice(how.voice)
        phrases = self._known([text] if how.phonemes else self._phonemes(text, how.voice[0]), text)
        with self._torch.random.fork_rng(), self._torch.no_grad():
            self._torch.manual_seed(how.seed)  # the vocoder's noise and phase are drawn
            # A voice is a table of styles, one for each number of phonemes.
            parts = [
                self._model(phrase, voice[len(phrase) - 1], how.words_per_minute / _NATURAL).float().cpu()
                for phrase in phrases
            ]
        samples = np.concatenate([np.atleast_1d(part.numpy()) for part in parts])
        if not np.isfinite(samples).all() or not samples.any():
            raise SampleFault("inaudible", f"nothing to hear in {text!r}")
        return soxr.resample(samples, _KOKORO_RATE, SAMPLE_RATE)

    def _known(self, phrases: list[str], text: str) -> list[str]:
        """The phrases that hold phonemes of the model."""
        kept = [phrase for phrase in phrases if any(sound in self._sounds for sound in phrase)]
        if not kept:
            raise SampleFault("inaudible", f"nothing to hear in {text!r}")
        if (longest := max(map(len, kept))) >= _LONGEST:
            raise SampleFault(
                "too long", f"{longest} phonemes at a stretch, Kokoro takes {_LONGEST - 1}: {text[:60]!r} …"
            )
        return kept

    @cached_property
    def _sounds(self) -> set[str]:
        return {sound for sound in self._model.vocab if not sound.isspace() and sound not in ';:,.!?—…"()“”'}

    def _phonemes(self, text: str, language: str) -> list[str]:
        """Phonemes of a text, phrase by phrase. The first letter of a voice is its language."""
        if language not in self._readers:
            self._readers[language] = self._pipeline(language, repo_id=REPOSITORY, model=False)
        return [phrase.phonemes for phrase in self._readers[language](text)]

    def _voice(self, name: str) -> Any:
        if name not in self._voices:
            wellformed = re.fullmatch(r"[a-z]{2}_[a-z0-9]+", name)  # so that the path stays in its folder
            path = self._file(f"voices/{name}.pt") if wellformed else None
            if path is None:
                raise SampleFault("not spoken", f"Kokoro has no voice {name!r}")
            pack = self._torch.load(path, map_location="cpu", weights_only=True)
            self._voices[name] = pack.to(self._model.device)
        return self._voices[name]

    def _needed(self, name: str) -> Path:
        path = self._file(name)
        if path is None:
            raise UserError(
                f"{self.folder or REPOSITORY}: holds no {name}; {FOLDER} must name a copy of {REPOSITORY}."
            )
        return path

    def _file(self, name: str) -> Path | None:
        """Where a published file lies; None when there is no such file."""
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
            f"{REPOSITORY}: {name} cannot be fetched from the hub; fetch the repository elsewhere and let {FOLDER} "
            "name the folder."
        ) from error
    except EntryNotFoundError:
        return None
