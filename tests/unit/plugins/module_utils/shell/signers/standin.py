# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the signer: a milter on a UNIX socket that signs with what it holds in memory, as rspamd does.

Built from libmilter's mfdef.h and RFC 6376, 8463. Its signatures are made by the library cryptography. The real signer
is asked in Molecule.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys
from ansible_collections.mailops.mta.plugins.module_utils.core.mail import dkim_header
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

SILENT_STEPS = 0xDF080
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Pair:
    """A key as the store has it. RSA keys are one and the same unless told otherwise, since making one takes long."""

    domain: str
    selector: str
    private: Any

    @property
    def algorithm(self) -> str:
        return "rsa" if isinstance(self.private, rsa.RSAPrivateKey) else "ed25519"

    @property
    def pem(self) -> str:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.private.private_bytes(*form).decode("ascii")

    @property
    def fingerprint(self) -> str:
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return keys.public_key(self.private.public_key().public_bytes(*form)).fingerprint

    @property
    def public(self) -> dict[str, str]:
        return {
            "domain": self.domain,
            "selector": self.selector,
            "algorithm": self.algorithm,
            "fingerprint": self.fingerprint,
        }

    def sign(self, fields: list[dkim_header.Field], body: bytes) -> str:
        body_hash = base64.b64encode(dkim_header.body_hash(body)).decode()
        value = (
            f" v=1; a={self.algorithm}-sha256; c=relaxed/relaxed; d={self.domain}; s={self.selector};\n\t"
            f"h=from:from:to:subject:date:message-id:reply-to; bh={body_hash}; b="
        )
        signed = dkim_header.signed_bytes(dkim_header.parse(value), fields)
        if self.algorithm == "rsa":
            made = self.private.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        else:
            made = self.private.sign(hashlib.sha256(signed).digest())
        text = base64.b64encode(made).decode()
        return value + "\n\t".join(text[start : start + 70] for start in range(0, len(text), 70))


def pair(domain: str, selector: str, algorithm: str = "ed25519") -> Pair:
    return Pair(domain, selector, RSA if algorithm == "rsa" else ed25519.Ed25519PrivateKey.generate())


@dataclass
class Signer:
    """Signs for the domains of ``pairs``, refuses others for now, and breaks off after ``patience`` messages."""

    path: Path
    pairs: list[Pair]
    patience: int = 1 << 30
    steps: int = SILENT_STEPS
    connections: int = 0
    shown: list[str] = field(default_factory=list)
    named: list[tuple[str, str]] = field(default_factory=list)  # each domain with the instance that asked

    def __enter__(self) -> Signer:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            fields: list[dkim_header.Field] = []
            body = b""
            instance = ""
            while True:
                head = stream.read(4)
                if len(head) < 4:
                    return
                packet = stream.read(struct.unpack("!I", head)[0])
                command, data = packet[:1], packet[1:]
                if command == b"O":
                    self._send(stream, b"O" + struct.pack("!III", 6, 0x11, self.steps))
                elif command == b"D" and data.startswith(b"C{daemon_name}\0"):
                    instance = data.split(b"\0")[1].decode()
                elif command == b"M":
                    fields, body = [], b""
                elif command == b"L":
                    name, value = data.decode().rstrip("\0").split("\0")
                    fields.append((name, " " + value))
                elif command == b"B":
                    body += data
                elif command == b"E":
                    if len(self.shown) >= self.patience:
                        return
                    self.named.append((dict(fields)["From"].rpartition("@")[2], instance))
                    self._answer(stream, fields, body)

    def _answer(self, stream: Any, fields: list[dkim_header.Field], body: bytes) -> None:
        domain = dict(fields)["From"].rpartition("@")[2]
        self.shown.append(domain)
        signing = [pair for pair in self.pairs if pair.domain == domain]
        if not signing:
            self._send(stream, b"y451 4.7.1 this server has no DKIM key\0")
            return
        self._send(stream, b"p")
        for one in signing:
            self._send(stream, b"i\0\0\0\1DKIM-Signature\0" + one.sign(fields, body).encode() + b"\0")
        self._send(stream, b"a")

    @staticmethod
    def _send(stream: Any, packet: bytes) -> None:
        stream.write(struct.pack("!I", len(packet)) + packet)
        stream.flush()
