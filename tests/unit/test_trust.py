# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A managed host decides about itself alone.

A module's answer may carry ``ansible_facts``. They become variables of the answering host that beat inventory,
group_vars and role defaults, and with run_once or delegate_to variables of every host of the play. So

- a task that runs on another host than the controller keeps the facts there (``delegate_facts``),
- a task that works for other hosts, on the key host or on the controller, and a lookup, which reads the controller's
  files, use no variable that a fact could set: only vars of plays, blocks, tasks and roles, registered results, magic
  variables, and what hangs from ``hostvars['fleet']``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2 import meta, nodes

ROOT = Path(__file__).resolve().parents[2]


class AnyFilter(dict[str, Any]):
    """Filters and tests of Ansible, which only names are wanted of."""

    def get(self, key: str, default: Any = None) -> Any:
        return str


ENVIRONMENT = jinja2.Environment()
ENVIRONMENT.filters = AnyFilter()
ENVIRONMENT.tests = AnyFilter()
# Ansible sets them after the facts.
MAGIC = {
    "ansible_check_mode",
    "ansible_failed_result",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "groups",
    "hostvars",
    "inventory_hostname",
    "item",
    "omit",
    "role_path",
}
CALLABLE = {"lookup", "query", "q", "now", "range", "dict", "undef", "namespace"}
# Evidence that each host gives about itself; a lie is as good as this host's own answer.
EVIDENCE = {"mta_dkim_seen"}
# What runs on the controller whatever the host is, with the variables of that host.
ACTIONS = {f"ansible.builtin.{name}" for name in ("copy", "template", "script", "unarchive", "fetch")}
SOURCES = {"src", "cmd"}
FLEET = "fleet"
PARTS = ("block", "rescue", "always")
# No templates for the host that a task works on.
BARE = {"when", "that", "failed_when", "changed_when", "until"}


@dataclass
class Scope:
    place: str
    safe: dict[str, Any] = field(
        default_factory=dict
    )  # name -> value, or None where a result or a magic variable is it
    delegated: bool = False

    def inner(self, variables: dict[str, Any], delegated: bool) -> Scope:
        return Scope(self.place, {**self.safe, **variables}, self.delegated or delegated)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def role_variables(name: str) -> dict[str, Any]:
    path = ROOT / "roles" / name / "vars" / "main.yml"
    return dict(load(path)) if path.exists() else {}


def texts(value: Any, bare: bool = False) -> Iterator[str]:
    """Every template in a value; ``bare`` for the keys that are expressions without braces."""
    if isinstance(value, str):
        yield "{{ " + value + " }}" if bare and "{{" not in value else value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts(one, key in BARE)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one, bare)


def names_in(text: str) -> set[str]:
    return meta.find_undeclared_variables(ENVIRONMENT.parse(text)) - CALLABLE if "{" in text else set()


def unsafe(value: Any, scope: Scope, seen: frozenset[str] = frozenset()) -> set[str]:
    """The names in ``value`` that a fact of a managed host could set, also through the variables that it uses."""
    found: set[str] = set()
    for text in texts(value):
        for name in names_in(text) - MAGIC - seen:
            if name not in scope.safe:
                found.add(name)
            elif scope.safe[name] is not None:
                found |= unsafe(scope.safe[name], scope, seen | {name})
        found |= foreign_hostvars(text)
    return found


def foreign_hostvars(text: str) -> set[str]:
    """``hostvars[...]`` of anything but the host fleet, where it is not evidence."""
    if "hostvars" not in text:
        return set()
    found = set()
    for use in ENVIRONMENT.parse(text).find_all(nodes.Getitem):
        of_hosts = isinstance(use.node, nodes.Name) and use.node.name == "hostvars"
        if of_hosts and not (isinstance(use.arg, nodes.Const) and use.arg.value == FLEET):
            found.add("hostvars[...] of another host than fleet")
    return found


def used(node: nodes.Node) -> set[str]:
    found = {one.name for one in node.find_all(nodes.Name)}
    return found | ({node.name} if isinstance(node, nodes.Name) else set())


def looked_up(value: Any) -> Iterator[str]:
    """The names in the arguments of every lookup in a value; for one that the template sets, those it is set from."""
    for text in texts(value):
        if "{" not in text:
            continue
        tree = ENVIRONMENT.parse(text)
        sources = [(one.target, one.node) for one in tree.find_all(nodes.Assign)]
        sources += [(one.target, one.iter) for one in tree.find_all(nodes.For)]
        local = {target.name: used(source) for target, source in sources if isinstance(target, nodes.Name)}
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("lookup", "query", "q"):
                names = {name for argument in call.args for name in used(argument)}
                while names & local.keys():
                    names = {one for name in names for one in local.get(name, {name})}
                yield from names


def lookup_names(value: Any, scope: Scope, seen: frozenset[str] = frozenset()) -> set[str]:
    """Unsafe names in the arguments of lookups, in ``value`` and in the variables that it uses."""
    found: set[str] = set()
    for name in set(looked_up(value)) - MAGIC:
        if name not in scope.safe:
            found.add(name)
        elif scope.safe[name] is not None:
            found |= unsafe(scope.safe[name], scope)
    for text in texts(value):
        for name in names_in(text) & scope.safe.keys() - seen:
            found |= lookup_names(scope.safe[name], scope, seen | {name})
    return found


def action(task: dict[str, Any]) -> str:
    return next((key for key in task if "." in key), "")


def judge(task: dict[str, Any], scope: Scope) -> Iterator[str]:
    """What is wrong with one task and with those in it."""
    target = task.get("delegate_to")
    apart = target is not None or bool(task.get("run_once"))
    inner = scope.inner(task.get("vars") or {}, apart)
    where = f"{scope.place}: {task.get('name', action(task))}"
    if target not in (None, FLEET) and task.get("delegate_facts") is not True:
        yield f"{where}: delegate_to {target} without delegate_facts: true"
    own = {key: value for key, value in task.items() if key not in (*PARTS, "name", "vars")}
    if inner.delegated:
        for name in sorted(unsafe(own, inner)):
            yield f"{where}: works for others and uses {name}, which a host could set by facts"
    elif action(task) in ACTIONS:
        for name in sorted(unsafe({key: (task[action(task)] or {}).get(key, "") for key in SOURCES}, inner)):
            yield f"{where}: reads a file of the controller whose path has {name}, which a host could set by facts"
    for name in sorted(lookup_names(own, inner)):
        yield f"{where}: a lookup uses {name}, which a host could set by facts"
    for part in PARTS:
        for one in task.get(part) or []:
            yield from judge(one, inner)


def registered(tasks: Any) -> Iterator[str]:
    """The names that tasks set by register, by set_fact or by a loop."""
    for task in tasks:
        if "register" in task:
            yield task["register"]
        yield from (task.get("ansible.builtin.set_fact") or {}).keys() - {"cacheable"}
        control = task.get("loop_control") or {}
        yield from (control[key] for key in ("loop_var", "index_var") if key in control)
        for part in PARTS:
            yield from registered(task.get(part) or [])


def role_findings(name: str) -> list[str]:
    files = sorted((ROOT / "roles" / name / "tasks").glob("*.yml"))
    results = {one: None for file in files for one in registered(load(file))}
    variables = role_variables(name)
    # Variables that include_tasks gives to the file it includes.
    given: dict[str, Any] = {}
    for task in (task for file in files for task in flat(load(file))):
        given |= task.get("vars") or {}
    found = []
    for file in files:
        if (name, file.stem) in WHOLE:
            scope = Scope(f"roles/{name}/tasks/{file.name}", {**given, **variables, **results}, True)
        else:
            scope = Scope(f"roles/{name}/tasks/{file.name}", {**variables, **results})
        for task in load(file):
            found += judge(task, scope)
    return found


# Files that are included with run_once.
WHOLE = {("dns", "keys"), ("dns", "look"), ("dns", "backend")}


def flat(tasks: Any) -> Iterator[dict[str, Any]]:
    for task in tasks:
        yield task
        for part in PARTS:
            yield from flat(task.get(part) or [])


def playbook_findings(path: Path) -> list[str]:
    found = []
    results: dict[str, Any] = dict.fromkeys(EVIDENCE)
    for play in load(path):
        if "hosts" not in play:
            continue
        scope = Scope(f"playbooks/{path.name}", {**results, **role_results(), **(play.get("vars") or {})})
        tasks = [task for key in ("pre_tasks", "tasks", "post_tasks") for task in play.get(key) or []]
        tasks += [
            {"name": f"role {role['role']}", "run_once": True, "ansible.builtin.debug": {"msg": role.get("vars", {})}}
            for role in play.get("roles") or []
            if isinstance(role, dict) and role["role"] == "mailops.mta.dns"
        ]
        for task in list(tasks):
            included = task.get("ansible.builtin.import_tasks")
            if included:
                tasks += load(path.parent / included)
            if (task.get("ansible.builtin.include_role") or {}).get("name") == "mailops.mta.dns":
                task["run_once"] = True  # it works once for all, and with the variables given here
                task["ansible.builtin.debug"] = {"msg": task.get("vars") or {}}
        scope.safe.update(dict.fromkeys(registered(tasks)))
        results.update(dict.fromkeys(registered(tasks)))
        for task in tasks:
            found += judge(task, scope)
    return found


def role_results() -> dict[str, None]:
    """What role dns registers for the plays behind it."""
    return {name: None for file in (ROOT / "roles" / "dns" / "tasks").glob("*.yml") for name in registered(load(file))}


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()))
def test_a_host_decides_about_itself_alone_in_roles(name: str) -> None:
    assert role_findings(name) == []


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_a_host_decides_about_itself_alone_in_playbooks(path: Path) -> None:
    assert playbook_findings(path) == []


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_playbook_stops_where_no_fleet_was_read(path: Path) -> None:
    if path.stem != "require_fleet":
        assert load(path)[0]["ansible.builtin.import_playbook"] == "mailops.mta.require_fleet"


KEY_HOST = "{{ hostvars['fleet'].mta_fleet.key_host }}"
SEEDED = yaml.safe_load("""
facts go to every host: {m.m.m: {}, delegate_to: KEY_HOST}
a host says where its keys come from: {m.m.m: {}, delegate_to: "{{ dkim_key_store_host }}", delegate_facts: true}
a host says which keys it gets: {m.m.m: {keys: "{{ mta_dkim.domains }}"}, delegate_to: KEY_HOST, delegate_facts: true}
a condition: {m.m.m: {}, when: mta_dns_force | default(false), delegate_to: KEY_HOST, delegate_facts: true}
another host's variables: {m.m.m: {keys: "{{ hostvars[inventory_hostname].x }}"}, delegate_to: fleet}
a path on the controller: {ansible.builtin.copy: {dest: "{{ mta_proof_file }}"}, delegate_to: fleet}
a variable of the task that uses one: {m.m.m: {}, vars: {a: "{{ b }}"}, when: a, run_once: true}
once for all: {m.m.m: {a: "{{ mta_engine }}"}, run_once: true}
in a block: {run_once: true, block: [{m.m.m: {a: "{{ mta_engine }}"}}]}
a file of the controller: {ansible.builtin.copy: {src: "{{ powermta_package }}", dest: /x}}
a lookup: {m.m.m: {a: "{{ lookup('ansible.builtin.password', directory ~ '/x') }}"}}
a lookup of what the template sets: {m.m.m: {a: "{% set f = b %}{{ lookup('ansible.builtin.file', f) }}"}}
a lookup in a variable: {vars: {a: "{{ lookup('ansible.builtin.file', b) }}"}, m.m.m: {a: "{{ a }}"}}
""")


@pytest.mark.parametrize("task", SEEDED.values(), ids=SEEDED)
def test_the_rules_see_what_they_are_for(task: dict[str, Any]) -> None:
    task = {key: KEY_HOST if value == "KEY_HOST" else value for key, value in task.items()}
    assert list(judge(task, Scope("seeded")))


def test_the_rules_let_pass_what_no_host_can_write() -> None:
    task = {
        "vars": {"a": "{{ hostvars['fleet'].b }}"},
        "m.m.m": {"keys": "{{ a }}", "hosts": "{{ ansible_play_hosts_all }}", "seen": "{{ result.keys }}"},
        "delegate_to": KEY_HOST,
        "delegate_facts": True,
    }
    assert list(judge(task, Scope("seeded", {"result": None}))) == []
