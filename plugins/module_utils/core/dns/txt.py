# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TXT data as one text, however it was cut into strings or written down (RFC 1035 3.3.14, 5.1).

A text stands for bytes in UTF-8; bytes that are no UTF-8 survive as surrogate escapes.
"""

from __future__ import annotations

import re

MAX_STRING = 255
_ESCAPE = re.compile(rb"\\(?:([0-9]{3})|(.))", re.DOTALL)
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)(?:"|\Z)|((?:[^\s"\\]|\\.)+)|\\\Z', re.DOTALL)
_SPECIAL = re.compile(rb"[^ !#-\[\]-~]")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def parse(content: str) -> str:
    """The text of a zone-file TXT value. Strings may be longer than 255 bytes, as some services hand them out.

    Content without a leading quote is one text as it stands, escapes resolved: no service separates bare words.
    """
    if len(content) > 1 and content[0] == content[-1] == '"' and "\\" not in content:
        text = content[1:-1].replace('" "', "")
        if '"' not in text:
            return text
    data = encode(content.strip())
    if not data.startswith(b'"'):
        return decode(_unescape(data))
    parts = (_unescape(match.group(1) or match.group(2) or b"") for match in _TOKEN.finditer(data))
    return decode(b"".join(parts))


def strings(text: str) -> list[bytes]:
    """``text`` cut into character-strings for the wire; the empty text is one empty string."""
    data = encode(text)
    return [data[start : start + MAX_STRING] for start in range(0, len(data), MAX_STRING)] or [b""]


def quote(text: str) -> str:
    """``text`` as a zone-file value: quoted strings of at most 255 bytes."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        starts = range(0, len(text) or 1, MAX_STRING)
        return " ".join([f'"{text[start : start + MAX_STRING]}"' for start in starts])
    return " ".join(f'"{_SPECIAL.sub(_escaped, part).decode("ascii")}"' for part in strings(text))


def _escaped(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return b"\\" + byte if byte in (b'"', b"\\") else b"\\%03d" % ord(byte)


def _unescape(data: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, data) if b"\\" in data else data


def _unescaped(match: re.Match[bytes]) -> bytes:
    number, character = match.groups()
    if number is None:
        return bytes(character)
    return bytes([int(number)]) if int(number) < 256 else b"\\" + number
