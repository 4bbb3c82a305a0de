#!/bin/sh
# Copyright (c) the mailops.mta authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs what this checkout needs, and nothing when all is there.
# usage: bootstrap.sh python|system ...
#   python   .venv with what the lock tests/requirements/venv.txt holds, and the link by which Ansible finds the collection
#   system   what the lab's containers need
set -eu
cd "$(dirname "$0")/../.."

as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    echo "apt-get install $*"
    log=$(mktemp)
    # The lists may be empty or old: only then is an update worth its seconds.
    if ! apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1; then
        apt-get update -q >>"$log" 2>&1 || true
        apt-get install -y -q --no-install-recommends "$@" >>"$log" 2>&1 || { tail -n 20 "$log"; rm -f "$log"; exit 1; }
    fi
    rm -f "$log"
}

# ansible-core 2.19 runs on 3.11 to 3.13. An interpreter without ensurepip cannot make a .venv (Debian's without python3-venv).
newest_python() {
    for version in 3.13 3.12 3.11; do
        for candidate in $(find "${PYENV_ROOT:-$HOME/.pyenv}"/versions -maxdepth 3 -path "*/$version.*/bin/python$version" 2>/dev/null | sort -rV) \
            $(which -a python$version 2>/dev/null) $(which -a python3 2>/dev/null); do
            if "$candidate" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
}

python() {
    mkdir -p build/collections/ansible_collections/mailops
    ln -sfn ../../../.. build/collections/ansible_collections/mailops/mta
    stamp=$(cat tests/requirements/install.txt tests/requirements/venv.txt | sha256sum | cut -c1-16)
    [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] || return 0
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        interpreter=$(newest_python)
        if [ -z "$interpreter" ] && as_root; then
            apt_install python3 python3-venv
            interpreter=$(newest_python)
        fi
        if [ -z "$interpreter" ]; then
            echo "Python 3.11, 3.12 or 3.13 with its venv module is needed. Install it (Debian: apt-get install python3 python3-venv)." >&2
            exit 1
        fi
        echo "making .venv with $("$interpreter" --version)"
        "$interpreter" -m venv --clear .venv
    fi
    echo "installing tests/requirements/venv.txt into .venv"
    .venv/bin/python tests/tools/workspace.py
    echo "$stamp" >.venv/stamp
}

# command or file, then the Debian package that brings it
needs='podman podman
runc runc
/usr/lib/podman/netavark netavark
/usr/lib/podman/aardvark-dns aardvark-dns
mmdebstrap mmdebstrap
newuidmap uidmap
iptables iptables
nft nftables
dbus-daemon dbus
ssh openssh-client
git git'

system() {
    missing=$(echo "$needs" | while read -r what package; do
        case $what in
        /*) [ -x "$what" ] || [ -x "/usr/libexec/podman/${what##*/}" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$what" >/dev/null ;;
        esac || printf '%s ' "$package"
    done)
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if as_root; then
        # shellcheck disable=SC2086
        apt_install $missing
    else
        echo "The lab's containers need packages that are not installed. As root: apt-get install --no-install-recommends $missing" >&2
        exit 1
    fi
}

for part in "$@"; do
    "$part"
done
