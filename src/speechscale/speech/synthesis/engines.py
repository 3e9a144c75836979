"""The interface of a speech engine, and the choice of an engine by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, Self

import numpy as np

from speechscale.errors import SampleFault, UserError, nearest
from speechscale.records.manifest import Synthesis
from speechscale.speech.synthesis.espeak import ESPEAK, EspeakEngine

KOKORO = "kokoro"


class SpeechEngine(Protocol):
    """A running synthesiser. A context manager: leaving the block frees its process or memory."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...

    def synthesize_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """The waveform of each text in order, float32 [samples], mono at 16 kHz; a fault where synthesis fails.

        The samples are a function of the text and its `Synthesis` alone: earlier requests do not change them.
        """
        ...


def open_engine(name: str) -> SpeechEngine:
    """The engine that `Synthesis.engine` names.

    Raises:
        UserError: unknown, or not installed.
    """
    if name not in _ENGINES:
        raise UserError(
            f"there is no speech engine {name!r}{nearest(name, tuple(_ENGINES))}; "
            f"known here: {', '.join(_ENGINES)}."
        )
    return _ENGINES[name]()


def default_voice(engine: str) -> str:
    """A voice that every installation of the engine has."""
    return "af_heart" if engine == KOKORO else "en-us"


def check_voices(settings: Sequence[Synthesis], where: str) -> None:
    """Synthesise one word with each of the settings, which name one engine, so that errors occur before any work.

    Raises:
        UserError: the engine lacks a voice; the sentence begins with `where` and names the voice.
    """
    with open_engine(settings[0].engine) as engine:
        answers = engine.synthesize_all([("word", each) for each in settings])
        for each, answer in zip(settings, answers, strict=True):
            if isinstance(answer, SampleFault):
                raise UserError(
                    f"{where}: {each.voice!r} cannot speak ({answer.detail}); nothing was started."
                )


def _kokoro() -> SpeechEngine:
    from speechscale.speech.synthesis.kokoro import KokoroEngine  # imports torch

    return KokoroEngine()


_ENGINES: dict[str, Callable[[], SpeechEngine]] = {ESPEAK: EspeakEngine, KOKORO: _kokoro}
