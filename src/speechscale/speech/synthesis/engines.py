"""What a speech engine is (requests in, waveforms out), and the engine of a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, Self

import numpy as np

from speechscale.errors import SampleFault, UserError, nearest
from speechscale.records.manifest import Synthesis
from speechscale.speech.synthesis.espeak import ESPEAK, Speaker

KOKORO = "kokoro"


class Engine(Protocol):
    """A running synthesiser. Use as a context manager: what it holds is given back with the block."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...

    def speak_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """Mono float32 at 16 kHz for each text in order; where it cannot be spoken, its fault.

        The samples are a function of the text and its `Synthesis` alone, whatever was spoken before.
        """
        ...


def open_engine(name: str) -> Engine:
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
    """A voice that the engine certainly has."""
    return "af_heart" if engine == KOKORO else "en-us"


def check_voices(ways: Sequence[Synthesis], where: str) -> None:
    """Let every way to speak say a word, before any work begins. All are of one engine.

    Raises:
        UserError: beginning with `where`, and naming a voice that the engine does not have.
    """
    with open_engine(ways[0].engine) as engine:
        for how, answer in zip(ways, engine.speak_all([("word", how) for how in ways]), strict=True):
            if isinstance(answer, SampleFault):
                raise UserError(
                    f"{where}: {how.voice!r} cannot speak ({answer.detail}); nothing was started."
                )


def _kokoro() -> Engine:
    from speechscale.speech.synthesis.kokoro import Kokoro  # and with it torch

    return Kokoro()


_ENGINES: dict[str, Callable[[], Engine]] = {ESPEAK: Speaker, KOKORO: _kokoro}
