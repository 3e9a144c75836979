"""A lean process that speaks: one fork of itself for every utterance.

espeak-ng keeps state between utterances that no call of its interface resets, so the same sentence sounds different
after another one. A fork always starts from the same untouched state, which makes the samples a function of (text,
voice, rate, seed) alone. Forking is cheap only in a small process: hence this file imports nothing but the standard library
and is run as a script of its own (`synthesis.py` does), never imported. docs/LOG.md has the measurements.

Protocol: one JSON request a line on stdin; on stdout an 8-byte header (status, length; little-endian int32) and then
`length` bytes: int16 samples or UTF-8 text when the status is 0, a UTF-8 message otherwise.
"""

import ctypes
import gc
import json
import os
import struct
import sys

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, on the calling thread
_UTF8, _PHONEMES = 1, 0x100  # espeak_Synth flags
_RATE = 1  # espeak_PARAMETER: words per minute
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def load(library: str, data: str) -> ctypes.CDLL:
    """The library, initialised; its sample rate must be the 22,050 Hz that the caller expects."""
    lib = ctypes.CDLL(library)
    rate = lib.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), 0)
    if rate != 22050:
        raise SystemExit(f"espeak-ng did not start (it answered {rate} for the sample rate)")
    lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
    return lib


def speak(lib: ctypes.CDLL, request: dict) -> bytes:
    chunks: list = []

    def keep(samples, count, _events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(keep)
    lib.espeak_SetSynthCallback(callback)
    set_voice(lib, request)
    lib.espeak_SetParameter(_RATE, request["rate"], 0)
    lib.espeak_ng_SetRandSeed(request["seed"])
    ctypes.CDLL(None).srand(request["seed"])
    text = request["text"].encode()
    flags = _UTF8 | (_PHONEMES if request["phonemes"] else 0)
    status = lib.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None)
    if status != 0:
        raise RuntimeError(f"espeak-ng answered {status} for {request['text']!r}")
    return b"".join(chunks)


def phonemes(lib: ctypes.CDLL, request: dict) -> bytes:
    """The mnemonics of a word, separated by underscores."""
    set_voice(lib, request)
    pointer = ctypes.c_char_p(request["text"].encode())
    return lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, ord("_") << 8)


def set_voice(lib: ctypes.CDLL, request: dict) -> None:
    if lib.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")


def answer(lib: ctypes.CDLL, request: dict) -> None:
    """In the fork: do the work and write the reply."""
    try:
        status, payload = 0, (speak if request["op"] == "speak" else phonemes)(lib, request)
    except Exception as error:  # whatever went wrong is the caller's to report
        status, payload = 1, str(error).encode()
    reply = memoryview(struct.pack("<ii", status, len(payload)) + payload)
    while reply:
        reply = reply[os.write(1, reply) :]


def main() -> None:
    lib = load(sys.argv[1], sys.argv[2])
    gc.freeze()  # a collection in the fork would touch, and so copy, every page
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                answer(lib, json.loads(line))
            finally:
                os._exit(0)
        os.waitpid(child, 0)


main()
