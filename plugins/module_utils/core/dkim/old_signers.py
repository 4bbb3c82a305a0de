# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DKIM keys an old signer has, from its configuration: OpenDKIM, PowerMTA, rspamd, or a directory of key files.

Sources: opendkim.conf(5) and opendkim(8) "DATA SETS"; the directive ``domain-key`` of PowerMTA's configuration;
rspamd's module dkim_signing and its UCL syntax. The files themselves are read by what is passed in as `Files`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol, Union

from ansible_collections.mailops.mta.plugins.module_utils.core import names
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import der, rsa
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim.keys import Key
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.model import RSA

RSPAMD_PATH = "/var/lib/rspamd/dkim/$domain.$selector.key"  # defaults of rspamd's dkim_signing
RSPAMD_SELECTOR = "dkim"
_MAX_INCLUDES = 5  # opendkim.conf(5)


class Files(Protocol):
    def read(self, path: str) -> Optional[str]:
        """The text of a file, None where there is none. Raises OSError, ValueError."""

    def matching(self, pattern: str) -> Sequence[str]:
        """The paths that fit a pattern in which * stands for a part of a name."""


@dataclass(frozen=True)
class Reference:
    """A key that a configuration names. ``text`` is the key itself where it stands in the configuration."""

    domain: str
    selector: str
    path: str
    where: str
    text: Optional[str] = None


@dataclass
class Layout:
    references: list[Reference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, domain: str, selector: str, path: str, where: str, text: Optional[str] = None) -> None:
        """Takes what can be a key, once."""
        try:
            domain = names.to_ascii(domain.strip().lower().rstrip("."))
            why = Key(domain, selector.lower(), RSA).problem
        except ValueError as error:
            why = str(error)
        new = Reference(domain, selector.lower(), path, where, text)
        if why:
            self.find(where, f"{selector} of {domain}", why, "Correct it, or leave it out")
        elif not any((one.domain, one.selector, one.path) == (domain, new.selector, path) for one in self.references):
            self.references.append(new)

    def find(self, where: str, found: str, why: str, remedy: str, severity: str = "error") -> None:
        self.findings.append(Finding(where, found, why, remedy, severity))

    def text(self, files: Files, path: str, where: str) -> str:
        """A file that ``where`` names; a finding and nothing where it cannot be read."""
        try:
            content = files.read(path)
            why = "there is no such file"
        except (OSError, ValueError) as error:
            content, why = None, getattr(error, "strerror", None) or "it cannot be read as text"
        if content is None:
            self.find(where, path, why, "Correct the path, or make the file readable")
        return content or ""


# OpenDKIM


def opendkim(path: str, files: Files) -> Layout:
    """The keys of an opendkim.conf: by KeyTable and SigningTable, or by Domain, Selector and KeyFile."""
    layout = Layout()
    settings: dict[str, tuple[str, str]] = {}
    _opendkim_settings(path, path, files, layout, settings, _MAX_INCLUDES)
    base = settings.get("basedirectory", ("", ""))[0]
    if "keytable" in settings:
        value, where = settings["keytable"]
        signing = settings.get("signingtable", (None, ""))[0]
        _key_table(_data_set(value, where, base, files, layout), signing, base, files, layout)
    elif {"domain", "selector", "keyfile"} <= settings.keys():
        selector, key = settings["selector"][0], _resolved(settings["keyfile"][0], base)
        value, where = settings["domain"]
        for at, domain, _rest in _data_set(value, where, base, files, layout):
            layout.add(domain, selector, key, at)
    elif not layout.findings:
        remedy = "Name the configuration that the signer runs with (opendkim -x)"
        layout.find(path, "no keys", "it has neither a KeyTable nor Domain, Selector and KeyFile", remedy)
    return layout


def key_table(path: str, files: Files) -> Layout:
    """The keys of a KeyTable alone."""
    layout = Layout()
    _key_table(_data_set(f"file:{path}", path, "", files, layout), None, "", files, layout)
    return layout


def _opendkim_settings(
    path: str, where: str, files: Files, layout: Layout, settings: dict[str, tuple[str, str]], depth: int
) -> None:
    for at, line in _lines(layout.text(files, path, where), path):
        name, _space, value = line.partition(" ")
        if name.lower() == "include" and depth:
            _opendkim_settings(value.strip(), at, files, layout, settings, depth - 1)
        else:
            settings[name.lower()] = (value.strip(), at)


def _key_table(
    entries: Sequence[tuple[str, str, str]], signing: Optional[str], base: str, files: Files, layout: Layout
) -> None:
    users = _signing_table(signing, base, files, layout) if signing else None
    for at, name, value in entries:
        parts = value.split(":", 2)
        if len(parts) < 3 or not all(parts):
            layout.find(at, name, "it is not domain:selector:key", "Correct the line, or leave it out")
            continue
        domain, selector, key = (part.strip() for part in parts)
        if users is not None and name not in users:
            why, remedy = (
                "no line of the SigningTable uses it, so nothing signs with it",
                "Import it by hand if need be",
            )
            layout.find(at, name, why, remedy, WARNING)
            continue
        domains = sorted((users or {}).get(name, ())) if domain == "%" else [domain]
        if not domains:
            layout.find(at, name, "its domain is that of the sender, which no table names", "Write the domain there")
        for each in domains:
            if key.startswith(("/", "./", "../")):
                layout.add(each, selector, _resolved(key.replace("%", each), base), at)
            else:
                layout.add(each, selector, at, at, key)


def _signing_table(spec: str, base: str, files: Files, layout: Layout) -> dict[str, set[str]]:
    """The domains that use each key; those of a pattern only where it names one."""
    users: dict[str, set[str]] = {}
    for _at, pattern, value in _data_set(spec, "SigningTable", base, files, layout):
        domain = pattern.rpartition("@")[2].lstrip(".")
        users.setdefault(value.split(":", 1)[0].strip(), set()).update({domain} if "*" not in domain else set())
    return users


def _data_set(spec: str, where: str, base: str, files: Files, layout: Layout) -> list[tuple[str, str, str]]:
    """The entries of a data set: (where, key, value)."""
    kind, _colon, rest = spec.partition(":")
    if kind in ("file", "refile") or spec.startswith("/"):
        path = _resolved(rest if kind in ("file", "refile") else spec, base)
        entries = []
        for at, line in _lines(layout.text(files, path, where), path):
            key, _space, value = line.partition(" ")
            entries.append((at, key, value.strip()))
        return entries
    if (rest and kind != "csl" and kind.isalpha()) or spec.endswith(".db"):
        why, remedy = "only files and lists are read here", "Write its entries into a file and name that"
        layout.find(where, f"a data set of kind {kind}", why, remedy)
        return []
    listed = [part.strip() for part in (rest if kind == "csl" else spec).split(",") if part.strip()]
    return [(where, part.partition("=")[0].strip(), part.partition("=")[2].strip()) for part in listed]


def _lines(text: str, path: str) -> Iterator[tuple[str, str]]:
    """Lines that say something, with single spaces, and where each stands."""
    for number, line in enumerate(text.splitlines(), 1):
        line = " ".join(line.partition("#")[0].split())
        if line:
            yield f"{path}:{number}", line


def _resolved(path: str, base: str) -> str:
    return path if path.startswith("/") or not base else f"{base.rstrip('/')}/{path}"


# PowerMTA


def powermta(path: str, files: Files) -> Layout:
    """The keys of a PowerMTA configuration: its lines ``domain-key selector,domain,path``, in whatever block."""
    layout = Layout()
    _powermta(path, path, files, layout, _MAX_INCLUDES)
    if not layout.references and not layout.findings:
        layout.find(path, "no keys", "it has no line domain-key", "Name the configuration that PowerMTA runs with")
    return layout


def _powermta(path: str, where: str, files: Files, layout: Layout, depth: int) -> None:
    for at, line in _lines(layout.text(files, path, where), path):
        name, _space, value = line.partition(" ")
        value = value.strip().strip('"')
        if name.lower() == "include" and depth:
            _powermta(value, at, files, layout, depth - 1)
        elif name.lower() == "domain-key":
            parts = [part.strip().strip('"') for part in value.split(",")]
            if len(parts) != 3 or not all(parts):
                layout.find(at, value, "it is not selector,domain,path", "Correct the line, or leave it out")
            elif "*" in parts[1]:
                remedy = "Write a line for each domain that the fleet sends for"
                layout.find(at, value, "it signs for whatever domain a message has", remedy)
            else:
                layout.add(parts[1], parts[0], parts[2], at)


# rspamd


def rspamd(path: str, files: Files) -> Layout:
    """The keys of rspamd's module dkim_signing: those of its domains, and those that its path template leads to."""
    layout = Layout()
    try:
        settings, macros = _ucl(layout.text(files, path, path))
    except ValueError as error:
        layout.find(path, str(error), "it is not UCL", "Correct it; rspamadm configtest names the place")
        return layout
    for macro in macros:
        layout.find(path, macro, "it is not followed", "Run this for the file that it names as well", WARNING)
    settings = _section(settings.get("dkim_signing")) or settings
    for option in ("use_redis", "use_vault"):
        if _on(settings.get(option), False):
            layout.find(path, option, "keys outside of files are not read", "Write them into files and name those")
    if "key_table" in settings:
        why, remedy = "it has OpenDKIM's form", "Read that file as an OpenDKIM key table"
        layout.find(path, f"key_table {settings['key_table']}", why, remedy)
    template = str(settings.get("path", RSPAMD_PATH))
    selector = str(settings.get("selector", RSPAMD_SELECTOR))
    selectors = _rspamd_map(settings.get("selector_map"), path, files, layout)
    paths = _rspamd_map(settings.get("path_map"), path, files, layout)
    blocks = _section(settings.get("domain"))
    for domain, block in blocks.items():
        chosen = {"selector": selectors.get(domain, selector), "path": paths.get(domain, template)}
        for each in _rspamd_block(_section(block)):
            told = {**chosen, **{name: str(value) for name, value in each.items()}}
            layout.add(domain, told["selector"], _filled(told["path"], domain, told["selector"]), path)
    for domain in sorted({*selectors, *paths} - blocks.keys()):
        told_selector = selectors.get(domain, selector)
        layout.add(domain, told_selector, _filled(paths.get(domain, template), domain, told_selector), path)
    if _on(settings.get("try_fallback"), True) and "$domain" in template:
        known = {*blocks, *selectors, *paths}
        for one in _by_template(template.replace("$selector", selector), files):
            if one["domain"] not in known:
                layout.add(one["domain"], selector, one["path"], path)
    if not layout.references and not layout.findings:
        layout.find(path, "no keys", "it names no domain, and no file fits its path", "Name the files of the signer")
    return layout


def directory(path: str, files: Files) -> Layout:
    """The keys of a directory whose files are named <domain>.<selector>.key, as rspamd has them."""
    layout = Layout()
    template = f"{path.rstrip('/')}/$domain.$selector.key"
    for one in _by_template(template, files):
        layout.add(one["domain"], one["selector"], one["path"], one["path"])
    if not layout.references and not layout.findings:
        layout.find(path, "no keys", "no file in it is named <domain>.<selector>.key", "Name the directory of the keys")
    return layout


def _rspamd_block(block: dict[str, Any]) -> list[dict[str, Any]]:
    """selector and path of each key of a domain."""
    several = block.get("selectors", [])
    listed = [_section(one) for one in (several if isinstance(several, list) else [several])]
    told = [{name: one[name] for name in one if name in ("selector", "path")} for one in (block, *listed)]
    return told if told[0] or not listed else told[1:]


def _rspamd_map(value: Any, where: str, files: Files, layout: Layout) -> dict[str, str]:
    """A map of domains: a file, or a list of lines."""
    if value is None:
        return {}
    if isinstance(value, list):
        lines = [(where, " ".join(str(line).split())) for line in value]
    else:
        path = str(value).partition("://")[2] or str(value)
        lines = list(_lines(layout.text(files, path, where), path))
    found = {}
    for at, line in lines:
        domain, _space, rest = line.partition(" ")
        if rest:
            found[domain.lower()] = rest
        else:
            layout.find(at, line, "it has no value", "Correct the line, or leave it out")
    return found


def _by_template(template: str, files: Files) -> Iterator[dict[str, str]]:
    pattern = re.escape(template).replace(r"\$domain", "(?P<domain>[^/]+)", 1)
    pattern = pattern.replace(r"\$domain", "(?P=domain)").replace(r"\$selector", "(?P<selector>[^/.]+)", 1)
    for path in files.matching(template.replace("$domain", "*").replace("$selector", "*")):
        match = re.fullmatch(pattern, path)
        if match:
            yield {**match.groupdict(), "path": path}


def _filled(template: str, domain: str, selector: str) -> str:
    return template.replace("$domain", domain).replace("$selector", selector)


def _section(value: Any) -> dict[str, Any]:
    """A block; blocks of one name are one."""
    if isinstance(value, list):
        return {name: inner for one in value for name, inner in _section(one).items()}
    return value if isinstance(value, dict) else {}


def _on(value: Any, default: bool) -> bool:
    return default if value is None else str(value).lower() in ("true", "yes", "on", "1")


_UCL = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*|/\*.*?\*/|[;,])
      | (?P<macro>\.[a-z_]+(?:\s*\([^)]*\))?[^\n]*)
      | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<mark>[{}\[\]=:])
      | (?P<bare>[^\s;,{}\[\]="'#:][^\s;,{}\[\]="'#]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_Token = tuple[str, str]
_Ucl = Union[str, list[Any], dict[str, Any]]


def _ucl(text: str) -> tuple[dict[str, Any], list[str]]:
    """The part of UCL that configurations of rspamd are written in, and its macros. Raises ValueError."""
    tokens: list[_Token] = []
    macros: list[str] = []
    position = 0
    while position < len(text):
        match = _UCL.match(text, position)
        if not match:
            raise ValueError(f"line {text.count(chr(10), 0, position) + 1}")
        kind, found = str(match.lastgroup), match.group()
        if kind == "macro":
            macros.append(found.strip().rstrip(";"))
        elif kind == "quoted":
            tokens.append(("text", re.sub(r"\\(.)", r"\1", found[1:-1])))
        elif kind == "bare" and found.endswith(":"):
            tokens += [("text", found[:-1]), ("mark", ":")]
        elif kind != "skip":
            tokens.append(("text" if kind == "bare" else "mark", found))
        position = match.end()
    rest = tokens[::-1]
    value = _ucl_object(rest, closed=False)
    return value, macros


def _ucl_object(rest: list[_Token], closed: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while rest:
        kind, key = rest.pop()
        if (kind, key) == ("mark", "}") and closed:
            return found
        if kind != "text":
            raise ValueError(f"{key} where a name is expected")
        value = _ucl_value(rest, key)
        held = found.get(key)
        found[key] = value if held is None else [*(held if isinstance(held, list) else [held]), value]
    if closed:
        raise ValueError("a block that is not closed")
    return found


def _ucl_value(rest: list[_Token], key: str) -> _Ucl:
    kind, text = rest.pop() if rest else ("", "")
    if (kind, text) in (("mark", "="), ("mark", ":")) and rest:
        kind, text = rest.pop()
    if (kind, text) == ("mark", "{"):
        return _ucl_object(rest, closed=True)
    if (kind, text) == ("mark", "["):
        return _ucl_array(rest, key)
    if kind != "text":
        raise ValueError(f"{key} without a value")
    if rest and rest[-1] == ("mark", "{"):  # section name { ... }
        return {text: _ucl_value(rest, text)}
    return text


def _ucl_array(rest: list[_Token], key: str) -> list[Any]:
    found: list[Any] = []
    while rest:
        kind, text = rest.pop()
        if (kind, text) == ("mark", "]"):
            return found
        if (kind, text) == ("mark", "{"):
            found.append(_ucl_object(rest, closed=True))
        elif kind == "text":
            found.append(text)
        else:
            raise ValueError(f"{text} in the list {key}")
    raise ValueError(f"the list {key} is not closed")


# Keys as they lie in files

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_ED25519_HEAD = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410 7, what stands before the seed


def pkcs8(text: str) -> str:
    """A private key as PKCS#8 in PEM form, from PKCS#8 or PKCS#1 in PEM form, from DER in base64 form, or from an
    Ed25519 seed or key pair in base64 form, as rspamd writes them. A ValueError never quotes the file."""
    match = _PEM.search(text)
    kind, body = (match[1], match[2]) if match else ("", text)
    if "ENCRYPTED" in kind or "Proc-Type" in body:
        raise ValueError("it is encrypted with a password")
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        raise ValueError("it is no key in PEM or base64 form") from None
    if kind == "RSA PRIVATE KEY" or (not kind and _is_pkcs1(data)):
        inside = der.integer(0) + rsa.ALGORITHM + der.encoded(der.OCTET_STRING, data)
        data = der.encoded(der.SEQUENCE, inside)
    elif not kind and len(data) in (32, 64):
        data = _ED25519_HEAD + data[:32]
    elif kind not in ("", "PRIVATE KEY"):
        raise ValueError(f"it is no private key but {kind.lower()}")
    encoded = base64.b64encode(data).decode("ascii")
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    return "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])


def _is_pkcs1(data: bytes) -> bool:
    """RFC 8017 A.1.2: after the version stands the modulus, where PKCS#8 has the algorithm."""
    start = 2 + (data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0)
    return data[:1] == b"\x30" and data[start : start + 4] == b"\x02\x01\x00\x02"
