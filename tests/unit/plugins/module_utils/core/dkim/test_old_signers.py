# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key that a documented configuration names is found; what cannot be read is a finding, never an exception."""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import subprocess
from collections.abc import Sequence
from typing import Callable, Optional

import pytest
from ansible_collections.mailops.mta.plugins.module_utils.core.dkim import keys, old_signers
from hypothesis import example, given
from hypothesis import strategies as st

DKIM = "/var/lib/rspamd/dkim"


class Held(dict[str, str]):
    """Files in memory."""

    def read(self, path: str) -> Optional[str]:
        return self.get(path)

    def matching(self, pattern: str) -> Sequence[str]:
        parts = pattern.count("/")
        return sorted(path for path in self if path.count("/") == parts and fnmatch.fnmatchcase(path, pattern))


def _found(layout: old_signers.Layout) -> list[tuple[str, str, str]]:
    return [(one.domain, one.selector, one.text or one.path) for one in layout.references]


def _whys(layout: old_signers.Layout) -> list[str]:
    return [f"{finding.where}: {finding.why}" for finding in layout.findings]


# OpenDKIM: opendkim.conf(5), opendkim(8) and the examples of its README


def test_opendkim_with_tables() -> None:
    files = Held(
        {
            "/etc/opendkim.conf": """
                # Log to syslog
                Syslog      yes
                KeyTable    refile:/etc/opendkim/KeyTable   # key names and keys
                signingtable refile:/etc/opendkim/SigningTable
                Domain      ignored.example
                Selector    ignored
                KeyFile     /ignored
            """,
            "/etc/opendkim/KeyTable": (
                "default._domainkey.example.com\texample.com:default:/etc/opendkim/keys/example.com/default.private\n"
                "\n"
                "shared  %:s1:/etc/opendkim/keys/%/s1.private\n"
                "unused example.org:old:/etc/opendkim/keys/old\n"
                "inline example.org:in:MIIBase64\n"
            ),
            "/etc/opendkim/SigningTable": (
                "*@example.com default._domainkey.example.com\n"
                "*@a.example  shared\n"
                "user@b.example shared:user@b.example\n"
                "*@*.c.example shared\n"
                "*@example.org inline\n"
            ),
        }
    )
    layout = old_signers.opendkim("/etc/opendkim.conf", files)
    assert _found(layout) == [
        ("example.com", "default", "/etc/opendkim/keys/example.com/default.private"),
        ("a.example", "s1", "/etc/opendkim/keys/a.example/s1.private"),
        ("b.example", "s1", "/etc/opendkim/keys/b.example/s1.private"),
        ("example.org", "in", "MIIBase64"),
    ]
    assert [(finding.severity, finding.where) for finding in layout.findings] == [
        ("warning", "/etc/opendkim/KeyTable:4")
    ]


@pytest.mark.parametrize("domain", ["example.com,Example.ORG.", "csl:example.com,example.org", "/etc/mail/domains"])
def test_opendkim_with_one_key(domain: str) -> None:
    files = Held(
        {
            "/etc/opendkim.conf": "BaseDirectory /etc/mail\nInclude /etc/mail/more.conf\nKeyFile mail.private\n",
            "/etc/mail/more.conf": f"Domain {domain}\nSelector mail\n",
            "/etc/mail/domains": "# ours\nexample.com\nexample.org\n",
        }
    )
    assert _found(old_signers.opendkim("/etc/opendkim.conf", files)) == [
        ("example.com", "mail", "/etc/mail/mail.private"),
        ("example.org", "mail", "/etc/mail/mail.private"),
    ]


def test_opendkim_names_what_it_cannot_read() -> None:
    files = Held(
        {
            "/a": "KeyTable dsn:mysql://dkim:hunter2@3306+db/odkim/table=keys?keycol=id?datacol=d,s,k\n",
            "/b": "KeyTable /missing\n",
            "/c": "KeyTable /table\n",
            "/table": "one example.com:s1\ntwo example.com::/k\nthree %:s:/k\nfour exa mple:s:/k\nfive x..y:s:/k\n",
            "/d": "Syslog yes\n",
            "/e": "Include /e\nKeyFile /k\n",
        }
    )
    told = {path: _whys(old_signers.opendkim(path, files)) for path in ["/a", "/b", "/c", "/d", "/e", "/none"]}
    assert told["/a"] == ["/a:1: only files and lists are read here"]
    assert "hunter2" not in str(old_signers.opendkim("/a", files).findings)
    assert told["/b"] == ["/b:1: there is no such file"]
    assert [why.partition(":")[2].partition(":")[0] for why in told["/c"]] == ["1", "2", "3", "4", "5"]
    assert told["/d"] == ["/d: it has neither a KeyTable nor Domain, Selector and KeyFile"]
    assert len(told["/e"]) == 1
    assert told["/none"] == ["/none: there is no such file"]
    assert _found(old_signers.key_table("/table", files)) == []


# PowerMTA: domain-key <selector>,<domain>,<path>


def test_powermta() -> None:
    files = Held(
        {
            "/etc/pmta/config": """
                postmaster you@your.domain
                include /etc/pmta/keys
                <virtual-mta mta1>
                    smtp-source-host 192.0.2.1 mail.example.com
                    domain-key mail,example.com,/etc/pmta/dkim/mail.example.com.pem  # ours
                    Domain-Key mail , example.com , /etc/pmta/dkim/mail.example.com.pem
                    #domain-key old,example.com,/etc/pmta/old.pem
                </virtual-mta>
                domain-key default,*,/etc/pmta.key
                domain-key default,/etc/pmta/dkim/yourdomain.com.private
            """,
            "/etc/pmta/keys": 'domain-key mail2026q2,"news.example.com","/etc/pmta/dkim/my news.pem"\n',
        }
    )
    layout = old_signers.powermta("/etc/pmta/config", files)
    assert _found(layout) == [
        ("news.example.com", "mail2026q2", "/etc/pmta/dkim/my news.pem"),
        ("example.com", "mail", "/etc/pmta/dkim/mail.example.com.pem"),
    ]
    assert _whys(layout) == [
        "/etc/pmta/config:10: it signs for whatever domain a message has",
        "/etc/pmta/config:11: it is not selector,domain,path",
    ]
    assert _whys(old_signers.powermta("/empty", Held({"/empty": "# nothing\n"}))) == [
        "/empty: it has no line domain-key"
    ]


# rspamd: the module's page and conf/modules.d/dkim_signing.conf


def test_rspamd_with_domains() -> None:
    files = Held(
        {
            "/etc/rspamd/local.d/dkim_signing.conf": """
                # If false, messages with empty envelope from are not signed
                allow_envfrom_empty = true;
                path = "/var/lib/rspamd/dkim/$domain.$selector.key";
                selector = "mail";
                try_fallback: false
                sign_networks = [192.0.2.0/24, "fd00::/8"]
                /* Domain specific
                   settings */
                domain {
                  example.com {
                    selectors [
                      { # Private key path
                        path = "/var/lib/rspamd/dkim/example.key";
                        selector = "ds";
                      },
                      { path = '/var/lib/rspamd/dkim/eddsa.key'; selector: eddsa }
                    ]
                  }
                  "example.org" { selector = "s1"; }
                  example.net { path = "/keys/net.key" }
                }
                domain "news.example.com" { selector = s2 }
            """
        }
    )
    layout = old_signers.rspamd("/etc/rspamd/local.d/dkim_signing.conf", files)
    assert layout.findings == []
    assert _found(layout) == [
        ("example.com", "ds", f"{DKIM}/example.key"),
        ("example.com", "eddsa", f"{DKIM}/eddsa.key"),
        ("example.org", "s1", f"{DKIM}/example.org.s1.key"),
        ("example.net", "mail", "/keys/net.key"),
        ("news.example.com", "s2", f"{DKIM}/news.example.com.s2.key"),
    ]


def test_rspamd_by_its_path_and_maps() -> None:
    files = Held(
        {
            "/conf": """dkim_signing {
                selector_map = "/etc/rspamd/selectors.map";
                path_map [ "c.example /keys/$domain/$selector.pem" ];
                .include(try=true,priority=5) "${DBDIR}/dynamic/dkim_signing.conf"
            }""",
            "/etc/rspamd/selectors.map": "# domain selector\nexample.com 2026a\nb.example b1\nbroken\n",
            f"{DKIM}/example.com.dkim.key": "",
            f"{DKIM}/example.org.dkim.key": "",
            f"{DKIM}/sub.example.org.dkim.key": "",
            f"{DKIM}/example.org.old.key": "",
            f"{DKIM}/README": "",
        }
    )
    layout = old_signers.rspamd("/conf", files)
    assert sorted(_found(layout)) == [
        ("b.example", "b1", f"{DKIM}/b.example.b1.key"),
        ("c.example", "dkim", "/keys/c.example/dkim.pem"),
        ("example.com", "2026a", f"{DKIM}/example.com.2026a.key"),
        ("example.org", "dkim", f"{DKIM}/example.org.dkim.key"),
        ("sub.example.org", "dkim", f"{DKIM}/sub.example.org.dkim.key"),
    ]
    assert [finding.severity for finding in layout.findings] == ["warning", "error"]


def test_a_directory_of_keys() -> None:
    files = Held({f"{DKIM}/a.example.s1.key": "", f"{DKIM}/b.a.example.s2.key": "", f"{DKIM}/notes.txt": ""})
    assert _found(old_signers.directory(f"{DKIM}/", files)) == [
        ("a.example", "s1", f"{DKIM}/a.example.s1.key"),
        ("b.a.example", "s2", f"{DKIM}/b.a.example.s2.key"),
    ]
    assert _whys(old_signers.directory("/none", files)) == ["/none: no file in it is named <domain>.<selector>.key"]


@pytest.mark.parametrize(
    "text",
    [
        "domain {",
        "domain = ",
        "}",
        "= 3",
        "a [ b",
        "a [ = ]",
        '"open',
        "domain { a.example { selector } }",
        "a = <<EOD",
    ],
)
def test_broken_ucl_is_a_finding(text: str) -> None:
    layout = old_signers.rspamd("/conf", Held({"/conf": text}))
    assert layout.references == []
    assert layout.findings


READERS: list[Callable[[str, old_signers.Files], old_signers.Layout]] = [
    old_signers.opendkim,
    old_signers.key_table,
    old_signers.powermta,
    old_signers.rspamd,
    old_signers.directory,
]
SNIPPETS = """
    KeyTable SigningTable Domain Selector KeyFile Include domain-key include /conf refile:/conf csl:a.example,b=c:d:/e %
    %:s:/k a.example:s:/k s,a.example,/k domain { } [ ] ; = : " ' # .include selector path $domain $selector * a.example
"""
WORDS = st.sampled_from([*SNIPPETS.split(), "\n", "\0", "ü.example"])


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=25).map(" ".join)))
@example("domain { a.example [ [ x ] ] }")
@example("selectors = { path { x = 1 } }\ndomain { a { selectors [ a ] } }")
def test_no_text_is_an_exception(text: str) -> None:
    for reader in READERS:
        layout = reader("/conf", Held({"/conf": text}))
        assert all(finding.where and finding.why and finding.remedy for finding in layout.findings)
        for one in layout.references:
            assert keys.Key(one.domain, one.selector, "rsa").problem is None


# Keys


def _openssl(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["openssl", *arguments], input=given.encode(), capture_output=True, check=True)
    return done.stdout.decode("latin-1")


@pytest.fixture(scope="module")
def rsa() -> str:
    return _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")


@pytest.fixture(scope="module")
def ed25519() -> str:
    return _openssl("genpkey", "-algorithm", "ED25519")


def test_every_form_of_a_key_becomes_the_same(rsa: str, ed25519: str) -> None:
    pkcs1 = _openssl("rsa", "-traditional", given=rsa)
    assert "BEGIN RSA PRIVATE KEY" in pkcs1
    bare = "".join(pkcs1.splitlines()[1:-1])
    wrapped = "".join(rsa.splitlines()[1:-1])
    seed = keys.for_rspamd(ed25519)
    pair = base64.b64encode(base64.b64decode(seed) + bytes(32)).decode()
    for form in (rsa, pkcs1, f"Bag Attributes\r\n{pkcs1}".replace("\n", "\r\n"), bare, wrapped):
        assert old_signers.pkcs8(form) == rsa
    for form in (ed25519, seed, f"{seed}\n", pair):
        assert old_signers.pkcs8(form) == ed25519


def test_what_is_no_key_is_refused_without_a_word_of_it(rsa: str) -> None:
    locked = _openssl("rsa", "-aes128", "-passout", "pass:secret", given=rsa)
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    for form in (locked, certificate, "not base64!", "-----BEGIN PRIVATE KEY-----\n@@@\n-----END PRIVATE KEY-----"):
        with pytest.raises(ValueError, match=r"^it is ") as refused:
            old_signers.pkcs8(form)
        assert form.splitlines()[1 if "\n" in form else 0] not in str(refused.value)


@given(st.binary(max_size=80))
def test_no_bytes_are_an_exception_but_a_refusal(data: bytes) -> None:
    for form in (data.decode("latin-1"), base64.b64encode(data).decode()):
        with contextlib.suppress(ValueError):
            assert keys.private_key(old_signers.pkcs8(form))[0] in ("rsa", "ed25519")
