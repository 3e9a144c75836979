"""A server of espeak-ng that forks a fresh process for every utterance.

espeak-ng keeps state between utterances that no call of its interface resets, so that a sentence sounds different
after another one. A fork always starts from the same untouched state, which makes the samples a function of (text,
voice, rate, seed) alone. There are three generations of processes:

- the *server* reads requests and writes answers; it never loads the library;
- a *fork server* per voice has loaded the library and the voice, which costs as much as forking, and then only forks
  (a voice that aligns has a second one: the library reports phonemes only if it was initialised to do so);
- an *utterance process* synthesises once, writes its answer to a scratch file and ends. A crash is its answer too.

Forking is cheap only in a small process. Therefore this file imports nothing but the standard library and is never
imported: `espeak.py` runs it as a script.

Protocol: one JSON request per line on stdin. The answer on stdout is an 8-byte header (status, length; little-endian
int32) and `length` bytes. Status 0: int16 samples, UTF-8 text or JSON. Other statuses: a UTF-8 message; 1: the
utterance cannot be spoken; 2: the machine failed. The server ends with its stdin.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import struct
import sys

TYPE_CHECKING = False  # as typing.TYPE_CHECKING; importing typing would enlarge the process
if TYPE_CHECKING:
    from typing import Any

    Request = dict[str, Any]  # op, text, voice; for speech also rate, seed, phonemes

# Constants of espeak-ng/speak_lib.h.
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples are passed to the callback, on the calling thread
_UTF8, _PHONEMES = 1, 0x100  # flags of espeak_Synth
_RATE = 1  # espeak_PARAMETER: words per minute
_PHONEME_EVENTS = 1  # an option of espeak_Initialize
_PHONEME_EVENT, _LAST_EVENT = 7, 0  # espeak_EVENT_TYPE
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

_HEADER = struct.Struct("<ii")  # status, length
_WAIT_STATUS = struct.Struct("<i")  # of an utterance process, as waitpid reports it
_CHUNK_BYTES = 1 << 20  # copied to stdout at a time


class Event(ctypes.Structure):
    """espeak_EVENT, with the name of a phoneme as the member of its union."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


class Library:
    """espeak-ng with one voice, ready for a single utterance. `aligns`: it reports the start of each phoneme."""

    def __init__(self, library: str, data: str, voice: str, aligns: bool) -> None:
        self.chunks: list[bytes] = []  # int16 samples
        self.starts: list[tuple[str, int]] = []  # phoneme and sample
        self.aligns = aligns
        self.lib = ctypes.CDLL(library)
        self.libc = ctypes.CDLL(None)
        self.callback = _CALLBACK(self._receive)  # must live as long as the library may call it
        rate = self.lib.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(data), _PHONEME_EVENTS if aligns else 0
        )
        if rate != 22050:
            raise SystemExit(f"espeak-ng did not start (it answered {rate} for the sample rate)")
        self.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.lib.espeak_SetSynthCallback(self.callback)
        self.has_voice = has_variant(data, voice) and self.lib.espeak_SetVoiceByName(voice.encode()) == 0

    def _receive(self, samples: int | None, count: int, events: int | None) -> int:
        """The callback of the library; both pointers may be null. Returning 0 continues the synthesis."""
        if samples and count > 0:
            self.chunks.append(ctypes.string_at(samples, 2 * count))
        if self.aligns and events:
            array = ctypes.cast(events, ctypes.POINTER(Event))
            index = 0
            while array[index].type != _LAST_EVENT:
                if array[index].type == _PHONEME_EVENT:
                    self.starts.append((array[index].name.decode(), array[index].sample))
                index += 1
        return 0

    def answer(self, request: Request) -> bytes:
        """The payload that answers a request.

        Raises:
            RuntimeError: the voice is unknown, or the text cannot be spoken.
        """
        if not self.has_voice:
            raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")
        operations = {"synthesize": self.synthesize, "align": self.align, "phonemize": self.phonemize}
        return operations[request["op"]](request)

    def synthesize(self, request: Request) -> bytes:
        """The samples, int16 at 22.05 kHz.

        Raises:
            RuntimeError: the text holds a NUL, or the library refuses it.
        """
        self.lib.espeak_SetParameter(_RATE, request["rate"], 0)
        self.lib.espeak_ng_SetRandSeed(request["seed"])
        self.libc.srand(request["seed"])
        text = request["text"].encode()
        if b"\0" in text:
            raise RuntimeError("the text holds a NUL, at which espeak-ng would stop")
        flags = _UTF8 | (_PHONEMES if request["phonemes"] else 0)
        status = self.lib.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None)
        if status != 0:
            raise RuntimeError(f"espeak-ng answered {status} for {request['text']!r}")
        return b"".join(self.chunks)

    def align(self, request: Request) -> bytes:
        """JSON: the phonemes with the sample at which each starts, and the number of samples."""
        length = len(self.synthesize(request)) // 2
        return json.dumps({"starts": self.starts, "samples": length}).encode()

    def phonemize(self, request: Request) -> bytes:
        """The mnemonics of a word, separated by underscores."""
        pointer = ctypes.c_char_p(request["text"].encode())
        mnemonics: bytes = self.lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, ord("_") << 8)
        return mnemonics


def has_variant(data: str, voice: str) -> bool:
    """Whether the variant of a voice (`f2` in `en-us+f2`) exists. espeak-ng silently ignores an unknown variant."""
    _language, plus, variant = voice.partition("+")
    return not plus or (variant != "" and os.access(f"{data}/voices/!v/{variant}", os.R_OK))


class ForkServer:
    """The server's handle of a fork server: a process that holds the library with one voice."""

    def __init__(self, library: str, data: str, voice: str, aligns: bool, scratch: int) -> None:
        request_reader, self.requests = os.pipe()
        self.statuses, status_writer = os.pipe()
        if os.fork() == 0:
            # A pipe ends when its last holder closes it. The fork server therefore closes the server's ends, and
            # stdin and stdout, to which the library might also write. It keeps the ends of fork servers that were
            # started before it: those end after it.
            os.close(self.requests)
            os.close(self.statuses)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            try:
                serve_forks(Library(library, data, voice, aligns), request_reader, status_writer, scratch)
            finally:
                os._exit(0)
        os.close(request_reader)
        os.close(status_writer)

    def answer(self, line: bytes) -> int:
        """Write the answer of a request to the scratch file; returns the exit status of the utterance process.

        Raises:
            SystemExit: the fork server has ended.
        """
        write_all(self.requests, line)
        status = os.read(self.statuses, _WAIT_STATUS.size)
        if not status:
            raise SystemExit("a process that held a voice was lost")
        wait_status: int = _WAIT_STATUS.unpack(status)[0]
        return wait_status


def serve_forks(library: Library, requests: int, statuses: int, scratch: int) -> None:
    """The loop of a fork server: one utterance process per request, until the requests end.

    Args:
        library: ready to speak once; only the forks use it.
        requests: file descriptor to read requests from, one per line.
        statuses: file descriptor to write the exit status of each utterance process to.
        scratch: file descriptor that the utterance processes write their answers to.
    """
    gc.freeze()  # a collection in a fork would touch every page, and so copy it
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                try:
                    write_answer(library, json.loads(line), scratch)
                    os._exit(0)
                finally:
                    os._exit(1)
            os.write(statuses, _WAIT_STATUS.pack(os.waitpid(child, 0)[1]))


def write_answer(library: Library, request: Request, scratch: int) -> None:
    """Answer a request into the scratch file, header included."""
    try:
        status, payload = 0, library.answer(request)
    except Exception as error:  # every error is an answer: the client reports it
        status, payload = 1, str(error).encode()
    os.lseek(scratch, 0, os.SEEK_SET)
    write_all(scratch, _HEADER.pack(status, len(payload)))
    write_all(scratch, payload)


def write_all(file: int, data: bytes) -> None:
    """Write all of the data to a file descriptor; `os.write` may write less."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def copy_to_stdout(scratch: int) -> None:
    """Copy the answer in the scratch file to stdout."""
    os.lseek(scratch, 0, os.SEEK_SET)
    while chunk := os.read(scratch, _CHUNK_BYTES):
        write_all(1, chunk)


def failure_answer(wait_status: int) -> tuple[int, bytes]:
    """Status and message of an utterance process without an answer: 1 for a crash, 2 for a failure of the machine."""
    if os.WIFSIGNALED(wait_status):
        return 1, f"espeak-ng crashed (signal {os.WTERMSIG(wait_status)})".encode()
    return 2, b"the answer could not be written; is the memory or the disk full?"


def open_scratch() -> int:
    """The descriptor of a file without a name, in memory where the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("answer")
    import tempfile

    return os.dup(tempfile.TemporaryFile().fileno())


def main(library: str, data: str) -> None:
    """Answer requests from stdin until it ends.

    Args:
        library: path of the shared library of espeak-ng.
        data: path of its data folder.
    """
    scratch = open_scratch()
    fork_servers: dict[tuple[str, bool], ForkServer] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        key = request["voice"], request["op"] == "align"
        if key not in fork_servers:
            fork_servers[key] = ForkServer(library, data, *key, scratch)
        os.ftruncate(scratch, 0)
        wait_status = fork_servers[key].answer(line)
        if wait_status == 0:
            copy_to_stdout(scratch)
        else:
            status, message = failure_answer(wait_status)
            write_all(1, _HEADER.pack(status, len(message)) + message)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C ends the client, which then closes our pipes
    try:
        main(sys.argv[1], sys.argv[2])
    except BrokenPipeError:
        os._exit(0)  # the client has ended
