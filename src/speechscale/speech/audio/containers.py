"""Checks of audio containers that the decoding library omits: truncated wav and Ogg files, MP3s of unknown length.

libsndfile reads a truncated wav or Ogg stream as a shorter one. It estimates the length of an MP3 that does not state
it from the bit rate of its first frame, and stops decoding there. Both would lose speech silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_STREAMED_LENGTH = 0x7FFF_0000  # programs that write into pipes put this, or more, in place of a length
_MAX_PAGE_BYTES = 65_307  # of an Ogg page (RFC 3533)
_PAGE_HEADER_BYTES = 27
_END_OF_STREAM = 4  # flag of an Ogg page header (RFC 3533)
_RIFF_HEADER_BYTES, _CHUNK_HEADER_BYTES = 12, 8
# Hz by MPEG version (3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5) and the two bits of the header.
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# kbit/s by (is MPEG 1, layer) and the four bits of the header; ISO 11172-3 and 13818-3.
_BIT_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def find_truncation(stream: BinaryIO) -> str | None:
    """The evidence that a wav or Ogg file is truncated, as a clause; None where there is none."""
    stream.seek(0)
    magic = stream.read(4)
    if magic == b"RIFF":
        return _wav_truncation(stream)
    if magic == b"OggS":
        return _ogg_truncation(stream)
    return None


def _size(stream: BinaryIO) -> int:
    return stream.seek(0, 2)


def _wav_truncation(stream: BinaryIO) -> str | None:
    size, position = _size(stream), _RIFF_HEADER_BYTES
    while position + _CHUNK_HEADER_BYTES <= size:
        stream.seek(position)
        header = stream.read(_CHUNK_HEADER_BYTES)
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            present = size - position - _CHUNK_HEADER_BYTES
            if present < length < _STREAMED_LENGTH:
                return f"it holds {present} of the {length} bytes of samples it states"
            return None
        position += _CHUNK_HEADER_BYTES + length + length % 2
    return None


def _ogg_truncation(stream: BinaryIO) -> str | None:
    stream.seek(max(0, _size(stream) - _MAX_PAGE_BYTES))
    tail = stream.read()
    start = tail.rfind(b"OggS")
    header, segment_sizes = tail[start : start + _PAGE_HEADER_BYTES], b""
    body = start + _PAGE_HEADER_BYTES
    if start >= 0 and len(header) == _PAGE_HEADER_BYTES:
        segment_sizes = tail[body : body + header[26]]
    if not segment_sizes or body + len(segment_sizes) + sum(segment_sizes) > len(tail):
        return "its last page is not whole"
    return None if header[5] & _END_OF_STREAM else "its last page is not marked as the end of a stream"


def count_mp3_samples(stream: BinaryIO) -> int | None:
    """Samples per channel of an MP3 that does not state its length, by counting frames; None where it states it."""
    total = 0
    for header, samples in _mpeg_frames(stream):
        if not total and any(tag in header for tag in (b"Xing", b"Info", b"VBRI")):
            return None
        total += samples
    return total


def _mpeg_frames(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The first bytes of every frame, and its samples per channel."""
    size = _size(stream)
    stream.seek(0)
    position, tag = 0, stream.read(10)
    if tag[:3] == b"ID3" and len(tag) == 10:
        position = 10 + sum((tag[6 + k] & 0x7F) << (21 - 7 * k) for k in range(4))
    while position + 4 <= size:
        stream.seek(position)
        head = stream.read(200)
        frame = _parse_mpeg_header(head)
        if frame is None:
            position += 1 + max(0, head.find(b"\xff", 1) - 1) if b"\xff" in head[1:] else len(head)
            continue
        length, samples = frame
        yield head, samples
        position += length


def _parse_mpeg_header(head: bytes) -> tuple[int, int] | None:
    """Bytes and samples per channel of the frame that begins here; None if no frame does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, code, rate_code = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or code in (0, 15) or rate_code == 3:
        return None
    bits, rate = 1000 * _BIT_RATES[version == 3, layer][code - 1], _SAMPLE_RATES[version][rate_code]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12 * bits // rate + padding), 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate + padding, samples
