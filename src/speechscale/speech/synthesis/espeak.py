"""Speech synthesis by espeak-ng: samples are a function of (text, voice, rate, seed) alone."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import soxr

from speechscale.errors import CannotWrite, SampleFault
from speechscale.records.manifest import SAMPLE_RATE, Synthesis

ESPEAK = "espeak-ng"
_MACHINE_FAILURE = 2  # a status of the protocol of `espeak_server`
_ESPEAK_RATE = 22_050  # Hz; fixed in espeak-ng
_STRESS_MARKS = "'%,="  # what may precede the name of a phoneme
_MAX_PENDING = 4  # requests sent before their answers are read, so that synthesis and encoding overlap
# Bytes of pending requests: no more than a pipe holds, so that sending never waits for a server that is not reading.
_MAX_PENDING_BYTES = 32_768


class EspeakEngine:
    """A running espeak-ng server. A context manager: its processes end with the block."""

    def __init__(self) -> None:
        import espeakng_loader

        script = Path(__file__).with_name("espeak_server.py")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",  # no user paths, no environment variables: the samples must not depend on them
                "-S",  # no site-packages: the process stays small, which makes its forks cheap
                str(script),
                espeakng_loader.get_library_path(),
                espeakng_loader.get_data_path(),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = 0  # answers that were requested and not yet read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def synthesize(self, text: str, settings: Synthesis) -> np.ndarray:
        """The waveform of a text, float32 [samples], mono at 16 kHz.

        Raises:
            SampleFault: empty text, unknown voice, or nothing audible in the text.
        """
        answer = next(iter(self.synthesize_all([(text, settings)])))
        if isinstance(answer, SampleFault):
            raise answer
        return answer

    def synthesize_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """The waveform of each text in order, float32 [samples], mono at 16 kHz; a fault where synthesis fails.

        One call at a time: the next call discards the answers that an unfinished iterator has not read.
        """
        self._discard_unread()
        pending: deque[tuple[str, int]] = deque()  # text and bytes of each request without an answer
        for text, settings in requests:
            request = _speech_request(text, settings)
            while len(pending) >= _MAX_PENDING or (
                pending and sum(size for _, size in pending) + len(request) > _MAX_PENDING_BYTES
            ):
                yield _to_waveform(pending.popleft()[0], self._receive())
            self._send(request)
            pending.append((text, len(request)))
        for text, _ in pending:
            yield _to_waveform(text, self._receive())

    def align(self, text: str, settings: Synthesis) -> list[tuple[str, float, float]]:
        """The phonemes that `synthesize` speaks: (name without stress, start, end), in seconds. A pause is named `_`.

        Raises:
            SampleFault: as `synthesize`.
        """
        answer = json.loads(self._ask(_speech_request(text, settings, "align")))
        names = ["_" if name[:1] == "_" else name.lstrip(_STRESS_MARKS) for name, _ in answer["starts"]]
        edges = [start / _ESPEAK_RATE for _, start in answer["starts"]] + [answer["samples"] / _ESPEAK_RATE]
        return [
            (name, start, end)
            for name, start, end in zip(names, edges[:-1], edges[1:], strict=True)
            if end > start and name
        ]

    def phonemize(self, word: str, voice: str) -> list[str]:
        """The phonemes of one word, as espeak-ng mnemonics with stress marks.

        Raises:
            SampleFault: unknown voice.
        """
        answer = self._ask(_to_line({"op": "phonemize", "text": word, "voice": voice}))
        return [phoneme for phoneme in answer.decode().split("_") if phoneme]

    def _ask(self, request: bytes) -> bytes:
        self._discard_unread()
        self._send(request)
        answer = self._receive()
        if isinstance(answer, SampleFault):
            raise answer
        return answer

    def _discard_unread(self) -> None:
        while self._unread:
            self._receive()

    def _send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        self._unread += 1

    def _receive(self) -> bytes | SampleFault:
        status, length = struct.unpack("<ii", self._read(8))
        payload = self._read(length)
        self._unread -= 1
        if status == _MACHINE_FAILURE:
            raise CannotWrite(f"espeak-ng: {payload.decode()}")
        return SampleFault("not spoken", payload.decode()) if status else payload

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) != count:
            raise RuntimeError("the synthesiser process ended unexpectedly")
        return data


def _speech_request(text: str, settings: Synthesis, op: str = "synthesize") -> bytes:
    return _to_line(
        {
            "op": op,
            "text": f"[[{text}]]" if settings.phonemes else text,
            "voice": settings.voice,
            "rate": settings.words_per_minute,
            "seed": settings.seed,
            "phonemes": settings.phonemes,
        }
    )


def _to_line(request: dict[str, object]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def _to_waveform(text: str, answer: bytes | SampleFault) -> np.ndarray | SampleFault:
    if isinstance(answer, SampleFault):
        return answer
    samples = np.frombuffer(answer, dtype="<i2")
    if not samples.any():
        return SampleFault("inaudible", f"nothing audible in {text!r}")
    waveform: np.ndarray = soxr.resample(samples.astype(np.float32) / 32768.0, _ESPEAK_RATE, SAMPLE_RATE)
    return waveform
