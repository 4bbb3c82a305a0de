# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""DER (ITU-T X.690), as much of it as RSA and Ed25519 keys need: tags of one byte and definite lengths.

A ValueError of these functions names what is wrong with the structure and never quotes the data, which may be secret.
"""

from __future__ import annotations

INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30


def element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which must have this tag, and the bytes after the element."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("its structure is not that of a key")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("it is cut short")
    return data[start : start + length], data[start + length :]


def only(data: bytes, tag: int) -> bytes:
    """The content of an element that nothing follows."""
    content, rest = element(data, tag)
    if rest:
        raise ValueError("something follows the key")
    return content


def first(data: bytes, *tags: int) -> list[bytes]:
    """The contents of the first elements, which must have these tags; more elements may follow."""
    found = []
    for tag in tags:
        content, data = element(data, tag)
        found.append(content)
    return found


def integers(data: bytes) -> list[int]:
    """The numbers of a SEQUENCE of INTEGER that nothing follows."""
    content, found = only(data, SEQUENCE), []
    while content:
        number, content = element(content, INTEGER)
        found.append(int.from_bytes(number, "big", signed=True))
    return found


def integer(number: int) -> bytes:
    """An INTEGER, whole, of a number that is not negative."""
    return encoded(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def encoded(tag: int, content: bytes) -> bytes:
    """A whole element."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content
