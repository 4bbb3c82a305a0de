# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint what people read: documentation of plugins and roles, links between pages, keys of the fleet file, changelog
fragments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fleet_keys
import workspace

LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ +(.+?) *$", CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    found = []
    text = page.read_text(encoding="utf-8")
    for target, anchor in LINK.findall(CODE.sub("", text)):
        file = page.parent / target if target else page
        if not file.exists():
            found.append(f"{page.relative_to(workspace.ROOT)}: '{target}' does not exist")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            found.append(f"{page.relative_to(workspace.ROOT)}: '{target}' has no heading '#{anchor}'")
    return found


def main() -> int:
    top = workspace.ROOT
    pages = [*top.glob("*.md"), *top.glob("docs/**/*.md"), *top.glob("roles/*/README.md"), *top.glob("molecule/*.md")]
    found = [problem for page in sorted(pages) for problem in broken_links(page)]
    found += filter(None, [fleet_keys.problem()])
    print("\n".join(found) if found else f"{len(pages)} pages, no broken link")
    copy = workspace.copy("docs")
    env = workspace.environ(ANSIBLE_COLLECTIONS_PATH=str(copy.parents[2]))
    workspace.call("antsibull-changelog", "lint", cwd=copy, env=env)
    workspace.call(
        *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck"),
        *("--validate-collection-refs=dependent", "."),
        cwd=copy,
        env=env,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
