"""A lean process that speaks: one fork for every utterance, made from a process that has its voice but never spoke.

espeak-ng keeps state between utterances that no call of its interface resets, so the same sentence sounds different
after another one. A fork always starts from the same untouched state, which makes the samples a function of (text,
voice, rate, seed) alone. Three generations share the work:

- the *server* reads requests and passes on answers; it never loads the library;
- a *singer* for each voice has loaded the library and the voice, which costs as much as forking, and then only forks
  (a voice whose phonemes are timed has another one: the library must know that when it starts);
- an *utterance* speaks once, leaves its answer in a scratch file and ends. If it crashes, that is its answer.

Forking is cheap only in a small process: hence this file imports nothing but the standard library and runs as a script
of its own (`synthesis.py` does), never imported.

Protocol: one JSON request a line on stdin; on stdout an 8-byte header (status, length; little-endian int32) and then
`length` bytes: int16 samples, UTF-8 text or JSON when the status is 0, else a UTF-8 message: 1, the utterance cannot be
spoken; 2, the machine failed. It ends with its stdin.
"""

import ctypes
import gc
import json
import os
import signal
import struct
import sys

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, on the calling thread
_UTF8, _PHONEMES = 1, 0x100  # espeak_Synth flags
_RATE = 1  # espeak_PARAMETER: words per minute
_PHONEME_EVENTS = 1  # an option of espeak_Initialize
_EVENT_OF_PHONEME, _LAST_EVENT = 7, 0  # espeak_EVENT_TYPE
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_HEADER = struct.Struct("<ii")  # status, length
_STATUS = struct.Struct("<i")  # of an utterance's process, as waitpid tells it
_PIECE = 1 << 20  # bytes passed on at a time


class Event(ctypes.Structure):
    """espeak_EVENT; the union at its end as the name of a phoneme."""

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


class Voice:
    """The library with one voice, ready to speak once; `timed`, and then to say when each phoneme began."""

    def __init__(self, library: str, data: str, name: str, timed: bool) -> None:
        self.chunks: list = []
        self.starts: list = []  # phoneme and sample
        self.lib = ctypes.CDLL(library)
        self.libc = ctypes.CDLL(None)
        self.callback = _CALLBACK(self._keep)  # must live as long as the library may call it
        options = _PHONEME_EVENTS if timed else 0
        rate = self.lib.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), options)
        if rate != 22050:
            raise SystemExit(f"espeak-ng did not start (it answered {rate} for the sample rate)")
        self.lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.lib.espeak_SetSynthCallback(self.callback)
        self.known = has_variant(data, name) and self.lib.espeak_SetVoiceByName(name.encode()) == 0

        self.timed = timed

    def _keep(self, samples, count, events) -> int:
        if samples and count > 0:
            self.chunks.append(ctypes.string_at(samples, 2 * count))
        if self.timed and events:
            self._note(ctypes.cast(events, ctypes.POINTER(Event)))
        return 0

    def _note(self, events) -> None:
        place = 0
        while events[place].type != _LAST_EVENT:
            if events[place].type == _EVENT_OF_PHONEME:
                self.starts.append((events[place].name.decode(), events[place].sample))
            place += 1

    def answer(self, request: dict) -> bytes:
        if not self.known:
            raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")
        return {"speak": self.speak, "time": self.time, "phonemes": self.phonemes}[request["op"]](request)

    def speak(self, request: dict) -> bytes:
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

    def time(self, request: dict) -> bytes:
        """Where each phoneme starts when the text is spoken, and how many samples there are: JSON."""
        length = len(self.speak(request)) // 2
        return json.dumps({"starts": self.starts, "samples": length}).encode()

    def phonemes(self, request: dict) -> bytes:
        """The mnemonics of a word, separated by underscores."""
        pointer = ctypes.c_char_p(request["text"].encode())
        return self.lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, ord("_") << 8)


def has_variant(data: str, name: str) -> bool:
    """Whether the variant of a voice (`f2` in `en-us+f2`) exists; espeak-ng would speak without it and not say so."""
    _language, plus, variant = name.partition("+")
    return not plus or (variant != "" and os.access(f"{data}/voices/!v/{variant}", os.R_OK))


class Singer:
    """The server's end of a process that holds one voice."""

    def __init__(self, library: str, data: str, name: str, timed: bool, scratch: int) -> None:
        inbox, self.requests = os.pipe()
        self.statuses, outbox = os.pipe()
        if os.fork() == 0:
            # A pipe ends with its last holder, so the singer lets go of the server's end, and of stdin and stdout,
            # to which the library might also write. (Ends of older singers it does hold: those end after it.)
            os.close(self.requests)
            os.close(self.statuses)
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
            try:
                sing(Voice(library, data, name, timed), inbox, outbox, scratch)
            finally:
                os._exit(0)
        os.close(inbox)
        os.close(outbox)

    def ask(self, line: bytes) -> int:
        """Have a request answered in the scratch file; the status that the utterance's process ended with."""
        write_all(self.requests, line)
        status = os.read(self.statuses, _STATUS.size)
        if not status:
            raise SystemExit("a process that held a voice was lost")
        return _STATUS.unpack(status)[0]


def sing(voice: Voice, inbox: int, outbox: int, scratch: int) -> None:
    gc.freeze()  # a collection in the fork would touch, and so copy, every page
    with os.fdopen(inbox, "rb") as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                try:
                    utter(voice, json.loads(line), scratch)
                    os._exit(0)
                finally:
                    os._exit(1)
            os.write(outbox, _STATUS.pack(os.waitpid(child, 0)[1]))


def utter(voice: Voice, request: dict, scratch: int) -> None:
    try:
        status, payload = 0, voice.answer(request)
    except Exception as error:  # whatever went wrong is the caller's to report
        status, payload = 1, str(error).encode()
    os.lseek(scratch, 0, os.SEEK_SET)
    write_all(scratch, _HEADER.pack(status, len(payload)))
    write_all(scratch, payload)


def write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def pass_on(scratch: int) -> None:
    """The answer in the scratch file, to stdout."""
    os.lseek(scratch, 0, os.SEEK_SET)
    while piece := os.read(scratch, _PIECE):
        write_all(1, piece)


def failure(status: int) -> tuple[int, bytes]:
    """Whose fault an unanswered utterance is: a crash the text's (1), anything else the machine's (2)."""
    if os.WIFSIGNALED(status):
        return 1, f"espeak-ng crashed (signal {os.WTERMSIG(status)})".encode()
    return 2, b"the answer could not be kept; is the memory or the disk full?"


def open_scratch() -> int:
    """A file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("answer")
    import tempfile

    return os.dup(tempfile.TemporaryFile().fileno())


def main(library: str, data: str) -> None:
    scratch = open_scratch()
    singers: dict = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        which = request["voice"], request["op"] == "time"
        if which not in singers:
            singers[which] = Singer(library, data, *which, scratch)
        os.ftruncate(scratch, 0)
        status = singers[which].ask(line)
        if status == 0:
            pass_on(scratch)
        else:
            kind, message = failure(status)
            write_all(1, _HEADER.pack(kind, len(message)) + message)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the client, whose end closes our pipes
    try:
        main(sys.argv[1], sys.argv[2])
    except BrokenPipeError:
        os._exit(0)  # nobody is left to answer
