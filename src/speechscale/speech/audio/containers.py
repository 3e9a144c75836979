"""What audio files say of their own length that the decoding library does not check: files cut short, MP3s without it.

libsndfile reads a wav or an Ogg stream that was cut short as a shorter one, and it estimates the length of an MP3 that
does not state it from the bit rate of its first frame, then stops there. Both would lose speech without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_UNKNOWN = 0x7FFF_0000  # programs that write into pipes put this, or more, where a length should be
_LONGEST_PAGE = 65_307  # bytes of an Ogg page (RFC 3533)
_PAGE_HEADER = 27  # bytes
_RIFF_OPENING, _CHUNK = 12, 8  # bytes
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# kbit/s by (is MPEG 1, layer) and the four bits of the header; ISO 11172-3 and 13818-3
_BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def missing_bytes(stream: BinaryIO) -> str | None:
    """What shows that a wav or Ogg file was cut short; None where nothing does."""
    stream.seek(0)
    opening = stream.read(4)
    if opening == b"RIFF":
        return _missing_of_wav(stream)
    if opening == b"OggS":
        return _missing_of_ogg(stream)
    return None


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _missing_of_wav(stream: BinaryIO) -> str | None:
    size, position = _size(stream), _RIFF_OPENING
    while position + _CHUNK <= size:
        stream.seek(position)
        head = stream.read(_CHUNK)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            left = size - position - _CHUNK
            if left < length < _UNKNOWN:
                return f"it holds {left} of the {length} bytes of samples it states"
            return None
        position += _CHUNK + length + length % 2
    return None


def _missing_of_ogg(stream: BinaryIO) -> str | None:
    stream.seek(max(0, _size(stream) - _LONGEST_PAGE))
    tail = stream.read()
    last = tail.rfind(b"OggS")
    header, sizes = tail[last : last + _PAGE_HEADER], b""
    if last >= 0 and len(header) == _PAGE_HEADER:
        sizes = tail[last + _PAGE_HEADER : last + _PAGE_HEADER + header[26]]
    if not sizes or last + _PAGE_HEADER + len(sizes) + sum(sizes) > len(tail):
        return "its last page is not whole"
    return None if header[5] & 4 else "its last page is not marked as the end of a stream"


def mp3_frames(stream: BinaryIO) -> int | None:
    """Samples a channel of an MP3 that does not state its length, by counting its frames; None where it states it."""
    total = 0
    for head, samples in _mpeg_frames(stream):
        if not total and any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
            return None
        total += samples
    return total


def _mpeg_frames(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The first bytes of every frame, and its samples a channel."""
    size = _size(stream)
    stream.seek(0)
    position, tag = 0, stream.read(10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        position = 10 + sum((tag[6 + k] & 0x7F) << (21 - 7 * k) for k in range(4))
    while position + 4 <= size:
        stream.seek(position)
        head = stream.read(200)
        found = _mpeg_frame(head)
        if found is None:
            position += 1 + max(0, head.find(b"\xff", 1) - 1) if b"\xff" in head[1:] else len(head)
            continue
        length, samples = found
        yield head, samples
        position += length


def _mpeg_frame(head: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the frame that begins here, if one does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, code, rate_code = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or code in (0, 15) or rate_code == 3:
        return None
    bits, rate = 1000 * _BIT_RATES[version == 3, layer][code - 1], _MPEG_RATES[version][rate_code]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12 * bits // rate + padding), 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate + padding, samples
