# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port behind which a mail server program works: what it can do, as data, and the questions that others ask.

An engine is one package beside this file and one line in table.py. Outside of its package nothing asks for an engine by
name: what differs is a capability or an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.mailops.mta.plugins.module_utils.core.model import Address, Fleet

# What a running engine needs to go from one set of files to another, the smallest first.
NOTHING, RELOAD, RESTART = "nothing", "reload", "restart"


@dataclass(frozen=True)
class Capabilities:
    """What an engine does by itself. Where it does not, the check of a fleet says so (core/fleet/checks/engines.py)."""

    weighted_shares: bool  # a share counts in proportion; else every share but 0 counts the same
    warm_up: bool  # follows a schedule of messages a day for a new address
    relay_by_port: bool  # who may inject is decided for each port; else for the whole host
    message_check: bool  # refuses at injection what is no message by RFC 5322, and From domains of other streams
    size_by_stream: bool  # the front listener knows the stream's limit when it takes a message
    bounces_by_stream: bool  # bounces of the front listener leave through the default stream
    bounce_processing: bool  # takes bounces and complaints that come back


class Engine(ABC):
    """One mail server program."""

    name: str  # as the fleet file has it
    title: str  # as people write it
    signer: str  # what signs the mail of a host, a key of milter.SIGNERS
    can: Capabilities
    configuration: tuple[str, ...]  # glob patterns of the files on a host that name source addresses

    @abstractmethod
    def variables(self, fleet: Fleet, host: str) -> dict[str, Any]:
        """What the engine's role reads of a host: ``{variable: slice}``."""

    @abstractmethod
    def signing(self, fleet: Fleet, host: str) -> dict[str, Any]:
        """What the signer of a host must know beside its domains: ``{socket: path or None, ...}``."""

    @abstractmethod
    def last_try_seconds(self, queue_life_seconds: int) -> int:
        """How old a message can be at its last delivery attempt. A DKIM key must stay published for as long."""

    @abstractmethod
    def bound_addresses(self, text: str) -> set[str]:
        """The addresses from which mail leaves by the text of one of the files that `configuration` names."""

    @abstractmethod
    def effort(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        """What a running engine needs to go from one set of files (by name) to another: NOTHING, RELOAD or RESTART."""

    @abstractmethod
    def queue_of(self, address: Address, group: str) -> str:
        """The name by which queue and log know the mail of an address for a receiver group."""
