# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of DKIM keys have in common; their argument specs take it from arguments/dkim.py.

The annotations matter: ansible-test reads every plain assignment in the class as a literal and fails on any other.
"""

from __future__ import annotations

_NAME = """
      domain:
        description: Signing domain, as A-labels.
        type: str
        required: true
      selector:
        description: Selector, one label.
        type: str
        required: true
      algorithm:
        description: Algorithm of the key.
        type: str
        choices: [rsa, ed25519]
        required: true
"""
_KEY = f"""{_NAME}
      fingerprint:
        description: First 32 hexadecimal digits of SHA-256 over the public key (SubjectPublicKeyInfo).
        type: str
        required: true
"""


class ModuleDocFragment:
    # What a signing host holds and signs with, for the modules that configure a signer.
    STATE: str = f"""
options:
  serial:
    description: Number of the state of the key store that O(keys) and O(signing) are of.
    type: int
    required: true
  keys:
    description: The keys that the host holds. M(mailops.mta.dkim_signer_key) has brought them.
    type: list
    elements: dict
    required: true
    suboptions:{_KEY}
      private:
        description: Whether the key store has its private part. Where it has not, a host that signs with it must hold
          it already.
        type: bool
        default: true
  signing:
    description: Those of O(keys) that sign.
    type: list
    elements: dict
    required: true
    suboptions:{_KEY}
"""

    # Which keys to read from the store.
    WANTED: str = f"""
options:
  keys:
    description: The keys to return. This is what M(mailops.mta.dkim_rotation) returns as C(holding).
    type: list
    elements: dict
    required: true
    suboptions:{_NAME}
      fingerprint:
        description: Which key it must be. Without it the one that has the name.
        type: str
      private:
        description: Whether the store has it. A key with V(false) is left out.
        type: bool
        default: true
"""

    # What the store gave, on its way to a signing host.
    BROUGHT: str = f"""
options:
  keys:
    description: Keys with their private part.
    type: list
    elements: dict
    required: true
    suboptions:{_KEY}
      private_key:
        description: PKCS#8 in PEM form.
        type: str
        required: true
  to_be_made:
    description: Keys that a run would make first. Check mode counts those that the signer can read, a run none.
    type: list
    elements: dict
    default: []
    suboptions:{_NAME}
"""
