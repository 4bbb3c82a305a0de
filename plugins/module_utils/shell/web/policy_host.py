# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web server for MTA-STS policies on this host: are its certificates good, its files as one set, does it serve.

A new set is tested before a byte of the old one is touched, and the old one comes back when the new one does not serve.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.mailops.mta.plugins.module_utils.core import foreign
from ansible_collections.mailops.mta.plugins.module_utils.core.finding import WARNING, Finding
from ansible_collections.mailops.mta.plugins.module_utils.core.web import policy_host
from ansible_collections.mailops.mta.plugins.module_utils.shell.host import files

SERVER = "/usr/sbin/apache2"
SERVICE = "mailops-mta-sts.service"
GROUP = "mailops-mta-sts"
UNIT_PATH = f"/etc/systemd/system/{SERVICE}"
_COMMAND_SECONDS = 60
_SERVE_SECONDS = 20
_PARTIAL_CHAIN = 0x80000  # X509_V_FLAG_PARTIAL_CHAIN; ssl names it from Python 3.10 on
_EXPIRED, _NOT_YET_VALID, _WRONG_NAME = 10, 9, 62  # X509_V_ERR_* of OpenSSL
_FAULTS = {
    _EXPIRED: ("it has expired", "Renew it"),
    _NOT_YET_VALID: ("it is not valid yet", "Correct the clock of the host, or wait"),
    _WRONG_NAME: ("its names do not cover the host", "Have it issued for this name, or correct host"),
}

# The server changes its own process only: with root's rights it could not be told so by mod_md.
EVENT_SCRIPT = """\
# Managed by Ansible (mailops.mta.mta_sts_host)
# mod_md calls this with an event and a name; a new certificate is used after a graceful restart.
[ "$1" != renewed ] || exec {server} -f {directory}/httpd.conf -k graceful
"""
UNIT = """\
# Managed by Ansible (mailops.mta.mta_sts_host)
[Unit]
Description=MTA-STS policies over HTTPS
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
User={group}
ExecStartPre={server} -f {directory}/httpd.conf -t
ExecStart={server} -f {directory}/httpd.conf -DFOREGROUND
# httpd ends where it cannot read its configuration, so it is asked before.
ExecReload={server} -f {directory}/httpd.conf -t
ExecReload=/bin/kill -USR1 $MAINPID
KillMode=mixed
Restart=on-failure
RestartSec=5
UMask=0077
RuntimeDirectory=mailops-mta-sts
StateDirectory=mailops-mta-sts
StateDirectoryMode=0700
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=true
# No option that filters system calls: systemd 257 starts no such unit in a container without CAP_SYS_ADMIN.
PrivateTmp=true
ProtectHome=true
ProtectSystem=strict

[Install]
WantedBy=multi-user.target
"""


class HostError(Exception):
    """The new set was refused. The old one is in place."""


@dataclass(frozen=True)
class File:
    path: str
    text: str
    secret: bool = False


@dataclass(frozen=True)
class Reply:
    """What a sender gets: the certificate (DER), and the answer to its GET."""

    certificate: bytes
    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Site:
    """What must be served on a host: the policy, by this certificate (DER; None: by one that ACME gave)."""

    host: str
    policy: bytes
    certificate: Optional[bytes]


# --- certificates ---


def leaf(chain: str) -> bytes:
    """The first certificate of a PEM chain, as DER. Raises ValueError."""
    start, end = chain.find("-----BEGIN CERTIFICATE-----"), chain.find("-----END CERTIFICATE-----")
    if start < 0 or end < start:
        raise ValueError("it holds no PEM certificate")
    return ssl.PEM_cert_to_DER_cert(chain[start : end + len("-----END CERTIFICATE-----")])


def judge(pattern: str, chain: str, key: str, hosts: Sequence[str]) -> list[Finding]:
    """Has OpenSSL shake hands with itself, as a sender and this server would: key, names and dates (RFC 8461 3.3)."""
    where = f"certificates: {pattern}"
    try:
        first = leaf(chain)
        server = _server(chain, key)
    except ValueError as error:
        return [Finding(where, str(error), "the server could not start with it", "Give the pair that belongs together")]
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strict.verify_flags |= _PARTIAL_CHAIN  # judges this certificate itself, whoever signed it
    strict.load_verify_locations(cadata=first)
    findings = []
    for host in hosts:
        fault = _handshake(server, strict, host)
        if fault:
            found, remedy = _FAULTS.get(fault.verify_code, (fault.verify_message, "Replace it"))
            why = "senders refuse it, and where they enforce the policy, mail stays"
            findings.append(Finding(f"{where} for {host}", found, why, remedy))
    public = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    public.load_default_certs()
    if hosts and not findings and _handshake(server, public, hosts[0]):
        why = "senders will not trust it, unless its CA is a private one that they know"
        remedy = "Give the whole chain: the certificate, then those of the intermediate CAs"
        findings.append(Finding(where, "its chain ends at no CA that this host knows", why, remedy, WARNING))
    return findings


def _server(chain: str, key: str) -> ssl.SSLContext:
    if "ENCRYPTED" in key:
        raise ValueError("its private key is encrypted, and nobody is there to type the password")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _in_memory(chain) as chain_path, _in_memory(key) as key_path:
            context.load_cert_chain(chain_path, key_path, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("the private key is that of another certificate") from None
        raise ValueError(f"OpenSSL does not take it: {error.reason or 'it is no PEM'}") from None
    return context


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path to ``text`` without a file."""
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, text.encode("utf-8"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Optional[ssl.SSLCertVerificationError]:
    """Why the client refuses the server's certificate, or None."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True))
    for _flight in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error
    return None


# --- what is served ---


def fetch(address: str, host: str, port: int = 443) -> Reply:
    """The policy as a sender would get it from this address. Trust is another question. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection((address, port), timeout=5))
        connection = stack.enter_context(context.wrap_socket(raw, server_hostname=host))
        certificate = connection.getpeercert(binary_form=True) or b""  # it is gone when the server has closed
        asking = http.client.HTTPConnection(host)
        asking.sock = connection
        try:
            asking.request("GET", policy_host.POLICY_PATH)
            answer = asking.getresponse()
            body = answer.read(65536)
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {error!r}") from None
        return Reply(certificate, answer.status, answer.getheader("Content-Type", ""), body)


def fault(site: Site, address: str) -> Optional[str]:
    """Why a sender does not get this policy by this certificate, or None."""
    try:
        reply = fetch(address, site.host)
    except OSError as error:
        return f"{site.host} does not answer: {error}"
    if site.certificate not in (None, reply.certificate):
        return f"{site.host} shows another certificate"
    if reply.status != 200 or not reply.content_type.startswith("text/plain"):
        return f"{site.host} answers {reply.status} {reply.content_type}"
    return None if reply.body == site.policy else f"{site.host} serves another policy"


def first_fault(sites: Iterable[Site], address: str) -> Optional[str]:
    """A fault that another try may mend. A name that waits for its certificate answers 503, and has none."""
    for site in sites:
        found = fault(site, address)
        if found and not (site.certificate is None and " answers 503 " in found):
            return found
    return None


def acme_detail(host: str) -> str:
    """What mod_md says about its last try for a name."""
    text = files.read(f"{policy_host.STATE_DIRECTORY}/staging/{host}/job.json")
    try:
        entries = foreign.parsed(text or "{}").get("log", {}).get("entries", [])
        details = [entry.get("detail") for entry in entries if entry.get("type") == "progress"]
    except (ValueError, AttributeError, TypeError):
        details = []
    return " / ".join([each for each in details if isinstance(each, str)][:2]) or "it has not been asked yet"


# --- files and service ---


def has_address(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def differing(wanted: Iterable[File]) -> list[File]:
    return [file for file in wanted if held(file.path) != file.text or _rights_differ(file)]


def stale(directory: str, wanted: Iterable[File]) -> list[str]:
    """Files of certificates and policies that are none of ``wanted``."""
    keep = {file.path for file in wanted}
    found = []
    for part in ("certificates", "sites"):
        for place, _directories, file_names in os.walk(os.path.join(directory, part)):
            found += [os.path.join(place, name) for name in file_names]
    return sorted(set(found) - keep)


def remove(paths: Iterable[str]) -> None:
    """Deletes files, and a directory that held nothing else."""
    for path in paths:
        files.remove(os.path.dirname(path), [os.path.basename(path)])
        if path.endswith(policy_host.POLICY_PATH):
            with contextlib.suppress(OSError):
                os.removedirs(os.path.dirname(path))


def test(wanted: Iterable[File], directory: str) -> None:
    """Asks httpd itself about the new configuration, in a copy in memory (/run). Raises HostError."""
    copy = tempfile.mkdtemp(prefix=".mailops-mta-sts-", dir="/run")
    try:
        os.mkdir(os.path.join(copy, "certificates"), 0o700)
        for file in wanted:
            relative = os.path.relpath(file.path, directory)
            if not relative.startswith(("..", "sites")):
                text = file.text.replace(directory, copy).replace(policy_host.RUNTIME_DIRECTORY, copy)
                files.write(os.path.join(copy, relative), text, mode=0o600)
        done = _run([SERVER, "-f", os.path.join(copy, "httpd.conf"), "-t"])
        if done.returncode:
            said = (done.stdout + done.stderr).replace(copy, directory).strip()
            raise HostError(f"httpd refuses the new configuration: {said}")
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def write(changed: Iterable[File], directory: str) -> None:
    _make_directories(directory)
    for file in changed:
        _place(file, file.text)


def install(changed: Sequence[File], directory: str, healthy: Callable[[], Optional[str]]) -> None:
    """Puts the files in place and has the service serve them. Raises HostError after putting the old ones back."""
    old = {file.path: (held(file.path), file) for file in changed}
    try:
        write(changed, directory)
        follow(old, directory, healthy)
    except (OSError, HostError) as error:
        for text, file in old.values():
            if text is None:
                remove([file.path])
            else:
                _place(file, text)
        raise HostError(f"{error}; {_resume(old, directory)}") from None


def _resume(old: Mapping[str, tuple[Optional[str], File]], directory: str) -> str:
    """Has the service run on the old files, or stops it where there were none."""
    configuration = old.get(os.path.join(directory, "httpd.conf"), ("", None))[0]
    try:
        if configuration is None:
            _systemctl("disable", "--now", "--quiet", SERVICE)
            _require(_systemctl("daemon-reload"))
            return "there was no older configuration, so it is stopped"
        follow(old, directory, lambda: None)
    except HostError as second:
        return f"the old files are back, but the service does not run on them either: {second}"
    return "the old files are back, and the service runs on them"


def running() -> bool:
    return all(_systemctl(verb, "--quiet", SERVICE).returncode == 0 for verb in ("is-active", "is-enabled"))


def follow(changed: Iterable[str], directory: str, healthy: Callable[[], Optional[str]]) -> None:
    """Has the service use the files as they are now. Files of policies are read at each request. Raises HostError."""
    paths = set(changed)
    if UNIT_PATH in paths:
        _require(_systemctl("daemon-reload"))
    _require(_systemctl("enable", "--quiet", SERVICE))
    before = _children()
    verb = _verb(paths, directory)
    if verb and _systemctl(verb, SERVICE).returncode:
        raise HostError(f"its {verb} failed. {_last_words()}")
    _wait(verb, before, healthy)


def retry() -> None:
    """mod_md forgets its waiting times at a reload, and asks the CA at once."""
    _require(_systemctl("reload", SERVICE))


def wait_for(seconds: float, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.5)


def _verb(paths: set[str], directory: str) -> str:
    if _systemctl("is-active", "--quiet", SERVICE).returncode:
        return "start"
    if UNIT_PATH in paths:
        return "restart"
    static = (os.path.join(directory, "sites"), os.path.join(directory, "event.sh"))
    return "reload" if any(not path.startswith(static) for path in paths) else ""


def _wait(verb: str, before: set[str], healthy: Callable[[], Optional[str]]) -> None:
    deadline = time.monotonic() + _SERVE_SECONDS
    problem: Optional[str] = "it does not run"
    while time.monotonic() < deadline:
        # A graceful restart makes new children.
        if _children() - (before if verb else set()):
            problem = healthy()
            if problem is None:
                return
        if _systemctl("is-active", "--quiet", SERVICE).returncode:
            break
        time.sleep(0.1)
    raise HostError(f"after its {verb or 'check'} {problem}. {_last_words()}")


def _last_words() -> str:
    _run(["journalctl", "--sync"])
    log = _run(["journalctl", "--unit", SERVICE, "--lines", "8", "--no-pager", "--output", "cat"]).stdout
    return f"Its last words: {log.strip()}"


def _children() -> set[str]:
    main = _systemctl("show", "--property", "MainPID", "--value", SERVICE).stdout.strip()
    with contextlib.suppress(OSError), open(f"/proc/{main}/task/{main}/children", encoding="ascii") as file:
        return set(file.read().split())
    return set()


def _group_id() -> Optional[int]:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def held(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", newline="") as file:  # a policy has CRLF
            return file.read()
    except FileNotFoundError:
        return None


def _rights_differ(file: File) -> bool:
    status = os.stat(file.path)
    wanted = (0o640, _group_id()) if file.secret else (0o644, status.st_gid)
    return status.st_uid != 0 or (stat.S_IMODE(status.st_mode), status.st_gid) != wanted


def _make_directories(directory: str) -> None:
    group = _group_id()
    if group is None:
        raise HostError(f"there is no group {GROUP}")
    os.makedirs(os.path.join(directory, "certificates"), exist_ok=True)
    os.makedirs(os.path.join(directory, "sites"), exist_ok=True)
    os.chown(directory, 0, group)
    os.chmod(directory, 0o750)
    for name in ("certificates", "sites"):
        os.chmod(os.path.join(directory, name), 0o755)


def _place(file: File, text: str) -> None:
    parent = os.path.dirname(file.path)
    if file.path.endswith(policy_host.POLICY_PATH):
        os.makedirs(parent, exist_ok=True)
        for place in (os.path.dirname(parent), parent):
            os.chmod(place, 0o755)
    if file.secret:
        files.write(file.path, text, mode=0o600)
        os.chown(file.path, 0, _group_id() or 0)
        os.chmod(file.path, 0o640)
    else:
        files.write(file.path, text)


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(["systemctl", *arguments])


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise HostError(f"{' '.join(done.args)}: {(done.stderr or done.stdout).strip()}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{command[0]}: {error.__class__.__name__}") from None
