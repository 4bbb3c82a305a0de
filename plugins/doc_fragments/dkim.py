# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of DKIM signers have in common; their argument specs take it from arguments/dkim.py."""

from __future__ import annotations


class ModuleDocFragment:
    STATE = r"""
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
    suboptions:
      domain:
        description: Signing domain.
        type: str
        required: true
      selector:
        description: Selector.
        type: str
        required: true
      algorithm:
        description: Algorithm of the key.
        type: str
        choices: [rsa, ed25519]
        required: true
      fingerprint:
        description: First 32 hexadecimal digits of SHA-256 over the public key (SubjectPublicKeyInfo).
        type: str
        required: true
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
    suboptions:
      domain:
        description: Signing domain.
        type: str
        required: true
      selector:
        description: Selector.
        type: str
        required: true
      algorithm:
        description: Algorithm of the key.
        type: str
        choices: [rsa, ed25519]
        required: true
      fingerprint:
        description: As in O(keys).
        type: str
        required: true
"""
