"""Text to waveform by espeak-ng: samples are a function of (text, voice, rate, seed) alone."""

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
_MACHINE_FAILED = 2  # a status of the server's protocol
_ESPEAK_RATE = 22_050  # Hz; fixed in espeak-ng
_STRESS = "'%,="  # what may precede a phoneme's name
_AHEAD = 4  # requests sent before their answers are read, so that speaking and encoding overlap
_AHEAD_BYTES = 32_768  # and together at most so long: what a pipe holds can be sent while nobody reads


class Speaker:
    """A running synthesiser. Use as a context manager: the process ends with the block."""

    def __init__(self) -> None:
        import espeakng_loader

        script = Path(__file__).with_name("espeak_server.py")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-I",  # no user paths, no environment: what is spoken must not depend on them
                "-S",  # no site-packages: keeps the process small, and so its forks cheap
                str(script),
                espeakng_loader.get_library_path(),
                espeakng_loader.get_data_path(),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._owed = 0  # answers that were asked for and not yet read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def speak(self, text: str, how: Synthesis) -> np.ndarray:
        """Mono float32 samples at 16 kHz.

        Raises:
            SampleFault: empty text, unknown voice, or nothing audible in the text.
        """
        answer = next(iter(self.speak_all([(text, how)])))
        if isinstance(answer, SampleFault):
            raise answer
        return answer

    def speak_all(self, requests: Iterable[tuple[str, Synthesis]]) -> Iterator[np.ndarray | SampleFault]:
        """The answers in the order of the requests; a refused utterance is an error in its place.

        One call at a time: what an unfinished one has left unread is thrown away when the next begins.
        """
        self._settle()
        sent: deque[tuple[str, int]] = deque()  # text and bytes of each request on its way
        for text, how in requests:
            request = _request(text, how)
            while len(sent) >= _AHEAD or (sent and sum(n for _, n in sent) + len(request) > _AHEAD_BYTES):
                yield _waveform(sent.popleft()[0], self._receive())
            self._send(request)
            sent.append((text, len(request)))
        for text, _ in sent:
            yield _waveform(text, self._receive())

    def timings(self, text: str, how: Synthesis) -> list[tuple[str, float, float]]:
        """The phonemes that `speak` speaks, each with its start and end in seconds; stress is left off, a pause is `_`.

        Raises:
            SampleFault: as `speak`.
        """
        self._settle()
        self._send(_request(text, how, "time"))
        answer = self._receive()
        if isinstance(answer, SampleFault):
            raise answer
        spoken = json.loads(answer)
        names = ["_" if name[:1] == "_" else name.lstrip(_STRESS) for name, _ in spoken["starts"]]
        edges = [start / _ESPEAK_RATE for _, start in spoken["starts"]] + [spoken["samples"] / _ESPEAK_RATE]
        return [
            (name, start, end)
            for name, start, end in zip(names, edges[:-1], edges[1:], strict=True)
            if end > start and name
        ]

    def phonemes(self, word: str, voice: str) -> list[str]:
        """Mnemonics of the sounds of one word, as espeak-ng names them.

        Raises:
            SampleFault: unknown voice.
        """
        self._settle()
        self._send(_line({"op": "phonemes", "text": word, "voice": voice}))
        answer = self._receive()
        if isinstance(answer, SampleFault):
            raise answer
        return [sound for sound in answer.decode().split("_") if sound]

    def _settle(self) -> None:
        while self._owed:
            self._receive()

    def _send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        self._owed += 1

    def _receive(self) -> bytes | SampleFault:
        status, length = struct.unpack("<ii", self._read(8))
        payload = self._read(length)
        self._owed -= 1
        if status == _MACHINE_FAILED:
            raise CannotWrite(f"espeak-ng: {payload.decode()}")
        return SampleFault("not spoken", payload.decode()) if status else payload

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) != count:
            raise RuntimeError("the synthesiser process ended unexpectedly")
        return data


def _request(text: str, how: Synthesis, op: str = "speak") -> bytes:
    return _line(
        {
            "op": op,
            "text": f"[[{text}]]" if how.phonemes else text,
            "voice": how.voice,
            "rate": how.words_per_minute,
            "seed": how.seed,
            "phonemes": how.phonemes,
        }
    )


def _line(request: dict[str, object]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def _waveform(text: str, answer: bytes | SampleFault) -> np.ndarray | SampleFault:
    if isinstance(answer, SampleFault):
        return answer
    samples = np.frombuffer(answer, dtype="<i2")
    if not samples.any():
        return SampleFault("inaudible", f"nothing to hear in {text!r}")
    return soxr.resample(samples.astype(np.float32) / 32768.0, _ESPEAK_RATE, SAMPLE_RATE)
