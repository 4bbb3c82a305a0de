# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a PowerMTA signs with: the keys that its configuration in force selects, whose files are whole.

It cannot be shown a message as a milter can, so this is what it was told, not what it was seen to do. A receiver shows
that (policy ``proof``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Optional

from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.installed import SigningKey
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import dkim, includes
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta import tree as powermta_tree
from ansible_collections.mailops.mta.plugins.module_utils.core.engines.powermta.dkim import Choice
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import errors
from ansible_collections.mailops.mta.plugins.module_utils.shell.engines.powermta import configuration
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers import key_files
from ansible_collections.mailops.mta.plugins.module_utils.shell.signers.key_files import HeldKey


def gather(directory: str, domains: Iterable[str], root: str = configuration.ROOT) -> dict[str, Any]:
    """``signer`` of the module dkim_signer_info without its clock. What is broken is something to tell, no error."""
    paths = configuration.Paths(root)
    if not os.path.lexists(directory) and not os.path.lexists(paths.conf_d) and not configuration.running():
        none = f"No signer was set up: there is neither {directory} nor {paths.conf_d}, and PowerMTA does not run"
        return {"serial": None, "signs": [], "unknown": [], "holds": [], "problems": [none]}
    problems: list[str] = []
    own = dkim.Keys(None)
    try:
        own = dkim.installed(configuration.current(root))
    except ValueError as error:
        problems.append(f"{paths.conf_d}/{dkim.FRAGMENT}: {error}")
    except configuration.PowermtaError as error:
        problems.append(str(error))
    files = key_files.of(key_files.POWERMTA, directory)
    held: list[HeldKey] = []
    try:
        held = files.held()
    except OSError as error:
        problems.append(f"{directory}: the keys cannot be listed: {error.strerror}")
    problems += [f"{files.place}/{one.name}: {one.why}" for one in held if not one.is_whole]
    asked = sorted({*domains, *(one.domain for one in own.references)})
    signs: Optional[list[SigningKey]] = None
    unknown: Sequence[str] = asked
    texts, why = _in_force(root, own.serial)
    if texts is None:
        problems.append(why)
    else:
        by_path = {os.path.join(files.place, one.name): one for one in held}
        signs, unknown, found = judge(texts, paths.main, asked, by_path)
        problems += found
    return {
        "serial": own.serial,
        "signs": None if signs is None else [asdict(key) for key in signs],
        "unknown": list(unknown),
        "holds": [asdict(one.signing_key) for one in held if one.signing_key],
        "problems": problems,
    }


def _in_force(root: str, serial: Optional[int]) -> tuple[Optional[Mapping[str, str]], str]:
    """The files that PowerMTA runs with, or why that is not known."""
    name = configuration.in_place(root)
    texts = configuration.tree(root)
    if configuration.in_force(root) and configuration.in_place(root) == name:
        return texts, ""
    if not configuration.running():
        return None, "PowerMTA does not run. See 'systemctl status pmta', and run the role powermta"
    if not configuration.is_ours(root):
        main = configuration.Paths(root).main
        return (
            None,
            f"PowerMTA runs with a configuration that this collection did not write ({main}). Run the role powermta",
        )
    return None, f"PowerMTA has not read what is in place, of the state {serial}: a run did not end. Run the role dkim"


def judge(
    texts: Mapping[str, str], main: str, domains: Sequence[str], held: Mapping[str, HeldKey]
) -> tuple[Optional[list[SigningKey]], list[str], list[str]]:
    """What signs (None: that cannot be told), the domains of which it is not known, and why.

    ``held`` has the key files by their paths.
    """
    document = includes.load(texts, main)
    broken = [f"{one.where}: {one.found}: {one.why}" for one in errors(document.findings)]
    tree = powermta_tree.build(document.nodes, main)
    doubts = broken or dkim.doubts(tree)
    if doubts:
        return None, list(domains), doubts
    choice = Choice(tree)
    signs: list[SigningKey] = []
    unknown: list[str] = []
    problems: list[str] = []
    for domain in domains:
        try:
            signs.append(_key(choice.of(domain), held))
        except ValueError as error:
            unknown.append(domain)
            problems.append(f"{domain}: {error}")
    return signs, unknown, problems


def _key(chosen: dkim.Reference, held: Mapping[str, HeldKey]) -> SigningKey:
    """The key that a line leads to. Raises ValueError where no file of ours is that key."""
    file = held.get(chosen.path)
    key = file.signing_key if file else None
    if key is None or (key.domain, key.selector) != (chosen.domain, chosen.selector):
        why = f" ({file.why})" if file and file.why else ""
        raise ValueError(f"it is signed with {chosen.selector} by {chosen.place}, whose key lies in no file here{why}")
    return key
