# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""House rules that no linter knows: specs and defaults agree, examples are true, each part has its page and licence."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.mailops.mta.plugins.module_utils.shell import fleet_file

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted((ROOT / "plugins" / "modules").glob("[!_]*.py"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
OWN = {"ansible.builtin", "mailops.mta"}
OPTIONAL = {("community.hashi_vault", "roles/dns/tasks/backend.yml")}  # for those who set mta_dkim_backend
LICENSED = {".py", ".yml", ".yaml", ".j2", ".sh", ".toml", ".cfg", ".lua", ".conf", ".service"}
# Folders that tools make, and the files that antsibull-changelog writes.
NOT_OURS = {"corpus", "build", "dist", "output", "fragments", "__pycache__"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def blocks(module: Path) -> dict[str, str]:
    """DOCUMENTATION, EXAMPLES and RETURN of a plugin, read without importing it."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }


def documented(module: Path, section: str = "options") -> dict[str, Any]:
    """A section of a module united with those of the fragments that it extends, as Ansible does: the first one wins."""
    document = yaml.safe_load(blocks(module)["DOCUMENTATION"])
    parts = [document, *map(fragment, document.get("extends_documentation_fragment", []))]
    united: dict[str, Any] = {}
    for part in parts:
        for name, entry in part.get(section, {}).items():
            united[name] = {**entry, **united.get(name, {})}
    return united


def fragment(name: str) -> dict[str, Any]:
    """``mailops.mta.<file>``, or ``mailops.mta.<file>.<part>``."""
    file, _dot, part = name.removeprefix("mailops.mta.").partition(".")
    held = importlib.import_module(f"ansible_collections.mailops.mta.plugins.doc_fragments.{file}").ModuleDocFragment
    return dict(yaml.safe_load(getattr(held, (part or "documentation").upper())))


def options_of(role: Path) -> dict[str, Any]:
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})


def with_default(options: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, option in options.items():
        if "default" in option:
            yield f"{path}{name}"
        yield from with_default(option.get("options", {}), f"{path}{name}.")


def templated(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def problems(options: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What ansible-core would say to these arguments. The value of a template is unknown, so only its key is judged."""
    spec = {}
    found = []
    for name, option in options.items():
        value = next((given[key] for key in (name, *option.get("aliases", [])) if key in given), None)
        nested = option.get("suboptions")
        entry = {key: option[key] for key in ("type", "elements", "choices", "aliases", "required") if key in option}
        parts = value if isinstance(value, list) else [value]
        if any(templated(part) for part in parts):
            entry = {key: entry[key] for key in ("aliases", "required") if key in entry} | {"type": "raw"}
        elif nested:
            for part in parts:
                if isinstance(part, dict):
                    found += problems(nested, part)
        spec[name] = entry
    return found + list(ArgumentSpecValidator(spec).validate(given).error_messages)


def tasks(document: Any) -> Iterator[dict[str, Any]]:
    """Every task of EXAMPLES, which may be tasks, plays or blocks."""
    for entry in document or []:
        inner = [
            entry[key] for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always") if key in entry
        ]
        if inner or "hosts" in entry:
            for part in inner:
                yield from tasks(part)
        else:
            yield entry


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
class TestRole:
    def test_is_complete(self, role: Path) -> None:
        needed = ["README.md", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"]
        missing = [name for name in needed if not (role / name).is_file()]
        assert missing == [], "\n".join(missing)
        assert (ROOT / "molecule" / role.name / "molecule.yml").is_file(), "no Molecule scenario has its name"

    def test_specs_and_defaults_agree(self, role: Path) -> None:
        options = options_of(role)
        defaults, variables = (
            load(path) if path.exists() else {} for path in (role / kind / "main.yml" for kind in ("defaults", "vars"))
        )
        optional = {name for name, option in options.items() if not option.get("required")}
        # What concerns other hosts is read from the host fleet, in vars.
        assert set(defaults) == {name for name in optional if name.startswith(f"{role.name}_")} - set(variables)
        assert [name for name in options if not name.startswith((f"{role.name}_", "mta_"))] == []

    def test_specs_hold_no_default(self, role: Path) -> None:
        assert list(with_default(options_of(role))) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
class TestModule:
    def test_examples_fit_the_options(self, module: Path) -> None:
        text = blocks(module)
        options = documented(module)
        name = f"mailops.mta.{module.stem}"
        calls = [task for task in tasks(yaml.safe_load(text["EXAMPLES"])) if name in task]
        assert calls, f"EXAMPLES never call {name}"
        assert [problem for task in calls for problem in problems(options, task[name] or {})] == []

    def test_tells_what_it_returns(self, module: Path) -> None:
        values = yaml.safe_load(blocks(module)["RETURN"])
        assert [name for name, value in values.items() if not {"returned", "type", "sample"} <= set(value)] == []

    def test_tells_its_attributes(self, module: Path) -> None:
        attributes = documented(module, "attributes")
        assert set(attributes) == {"check_mode", "diff_mode", "idempotent"}
        assert [name for name, entry in attributes.items() if not {"description", "support"} <= set(entry)] == []

    def test_states_only_attributes_that_differ(self, module: Path) -> None:
        document = yaml.safe_load(blocks(module)["DOCUMENTATION"])
        (shared,) = (
            fragment(name)["attributes"]
            for name in document["extends_documentation_fragment"]
            if name.startswith("mailops.mta.attributes")
        )
        repeated = [
            f"{name}.{key}"
            for name, entry in document.get("attributes", {}).items()
            for key, value in entry.items()
            if key == "description" or shared[name].get(key) == value
        ]
        assert repeated == []


def test_the_examples_of_the_inventory_plugin_load() -> None:
    text = blocks(ROOT / "plugins" / "inventory" / "fleet.py")["EXAMPLES"]
    fleet, findings = fleet_file.load([("EXAMPLES", text)])
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert fleet is not None


def test_problems_sees_wrong_arguments() -> None:
    options = {
        "state": {"type": "str", "choices": ["present", "absent"], "required": True},
        "keys": {"type": "list", "elements": "dict", "suboptions": {"domain": {"type": "str", "required": True}}},
    }
    assert problems(options, {"state": "present", "keys": [{"domain": "example.com"}]}) == []
    assert problems(options, {"state": "{{ state }}", "keys": "{{ keys }}"}) == []
    for wrong in (
        {},
        {"state": "gone"},
        {"state": "present", "purge": True},
        {"state": "present", "keys": [{"name": "x"}]},
    ):
        assert problems(options, wrong)


def test_every_part_stands_in_the_docs() -> None:
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    parts = [path.stem for path in (*ROLES, *MODULES, *PLAYBOOKS)]
    missing = [part for part in parts if not re.search(rf"(?<![\w-]){part}(?![\w-])", text)]
    assert missing == [], "\n".join(missing)


def exceptions() -> set[str]:
    """Every exception class of plugins/, as ``shell.dkim.keys.StoreError``."""
    bases: dict[str, tuple[str, list[str]]] = {}
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        place = ".".join(path.relative_to(ROOT / "plugins").with_suffix("").parts).removeprefix("module_utils.")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[f"{place}.{node.name}"] = (
                    node.name,
                    [ast.unparse(base).rpartition(".")[2] for base in node.bases],
                )
    raised = {name for name, one in vars(builtins).items() if isinstance(one, type) and issubclass(one, BaseException)}
    found: set[str] = set()
    while True:
        more = {full for full, (_name, above) in bases.items() if raised & set(above)} - found
        if not more:
            return found
        found |= more
        raised |= {bases[full][0] for full in more}


def first_cells(page: Path, heading: str) -> list[str]:
    """The names in backquotes that begin the rows of the tables below a heading."""
    section = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def test_the_page_of_errors_has_every_exception_and_module_once() -> None:
    page = ROOT / "docs" / "errors.md"
    assert sorted(first_cells(page, "Exceptions")) == sorted(exceptions())
    reading = re.findall(
        r"`(\w+)`", page.read_text(encoding="utf-8").partition("only read change nothing")[2].partition(".")[0]
    )
    assert sorted([*first_cells(page, "Modules"), *reading]) == sorted(module.stem for module in MODULES)


def words() -> list[list[str]]:
    """The rows of the table of words."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Words\n")[2]
    rows = re.findall(r"^\| (.*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[1:]]


def names_of(options: Optional[dict[str, Any]], inner: str, path: str) -> Iterator[str]:
    for name, option in (options or {}).items():
        yield f"{path}.{name}"
        yield from names_of(option.get(inner), inner, f"{path}.{name}")


def public_names() -> Iterator[str]:
    for module in MODULES:
        yield module.stem
        yield from names_of(documented(module), "suboptions", module.stem)
        yield from names_of(yaml.safe_load(blocks(module)["RETURN"]), "contains", module.stem)
    for role in ROLES:
        yield from names_of(options_of(role), "options", role.name)
    yield from names_of(documented(ROOT / "plugins" / "inventory" / "fleet.py"), "suboptions", "fleet.yml")
    for path in sorted((ROOT / "plugins").rglob("*.py")):  # metrics, and variables of the inventory
        yield from re.findall(r'"(mta_[a-z0-9_]+)"', path.read_text(encoding="utf-8"))


# Names that are to be renamed: this list gets shorter only.
OTHER_WORDS = {
    "alignment_info": "proof",
    "dkim_dns_info.looks": "answer",
    "dkim_rotation.evidence.looks": "answer",
    "dkim_signer_info.signer.problems": "finding",
    "dns.dns_always_look": "answer",
    "fleet.yml.verify": "proof",
    "powermta_info.licence": "license",
    "proof_message.probes": "proof",
    "relay_info.probes": "proof",
}
DMARC_SAYS_SO = {"alignment_dkim", "alignment_spf"}


def test_public_names_use_one_word_for_one_thing() -> None:
    instead = {other: row[0] for row in words() for other in row[-1].split(", ") if other}
    assert len(instead) > 10
    found = {
        name: instead[part.removesuffix("s")]
        for name in public_names()
        for part in name.rpartition(".")[2].split("_")
        if part.removesuffix("s") in instead and name.rpartition(".")[2] not in DMARC_SAYS_SO
    }
    assert found == OTHER_WORDS


def test_the_words_have_every_class_of_the_model() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Words\n")[2]
    named = set(re.findall(r"`([A-Z][A-Za-z]+)\b", text.partition("\n## ")[0]))
    model = (ROOT / "plugins" / "module_utils" / "core" / "model.py").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r"^class (\w+)", model, re.MULTILINE)) - named) == []


def test_roles_and_playbooks_use_what_galaxy_installs() -> None:
    declared = OWN | set(load(ROOT / "galaxy.yml").get("dependencies") or {})
    used = {
        (match.group(1), str(path.relative_to(ROOT)))
        for folder in ("roles", "playbooks")
        for path in (ROOT / folder).rglob("*.yml")
        for match in re.finditer(
            r"^[ -]+([a-z_]+\.[a-z_]+)\.[a-z0-9_]+:", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert [each for each in sorted(used) if each[0] not in declared and each not in OPTIONAL] == []


def ours() -> Iterator[Path]:
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") and part not in (".ci", ".config") for part in parts[:-1])
        if path.suffix in LICENSED and path.is_file() and not hidden and not NOT_OURS & set(parts):
            yield path


def test_every_file_tells_its_licence() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in ours()
        if path.name != "changelog.yaml"
        and "SPDX-License-Identifier: GPL-3.0-or-later"
        not in "".join(path.read_text(encoding="utf-8").splitlines(True)[:7])
    ]
    assert missing == [], "\n".join(sorted(missing))


def test_nothing_is_ignored() -> None:
    assert list(ROOT.glob("tests/sanity/ignore*")) == []
    assert not (ROOT / ".ansible-lint-ignore").exists()
