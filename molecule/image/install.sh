#!/bin/sh
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs inside the image. usage: install.sh node|archive|services PACKAGE...
set -eu
kind=$1
shift
online=/etc/apt/sources.online
repository=/srv/apt
rm -f /etc/apt/sources.list.d/lab.list
[ ! -d $online ] || cp -a $online/. /etc/apt/
apt-get -q update
have=$(for p; do apt-cache show --no-all-versions "$p" >/dev/null 2>&1 && echo "$p" || echo "left out: $p" >&2; done)
install="apt-get -qy --no-install-recommends install"
case $kind in
node)
    $install $have
    rm -f /usr/sbin/policy-rc.d
    systemctl mask systemd-networkd.service systemd-resolved.service getty.target >/dev/null 2>&1
    ;;
archive)
    # A repository of its own, not apt's cache: "apt-get update" and a role's update_cache work without a network too.
    $install --download-only $have
    mkdir -p $repository
    mv /var/cache/apt/archives/*.deb $repository/
    cd $repository
    for deb in *.deb; do
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
    done > Packages
    ;;
services)
    $install $have
    for unit in unbound named pdns; do systemctl disable "$unit" >/dev/null 2>&1 || true; done
    ;;
esac
mkdir -p $online/sources.list.d
[ ! -s /etc/apt/sources.list ] || mv /etc/apt/sources.list $online/
find /etc/apt/sources.list.d -type f ! -name lab.list -exec mv {} $online/sources.list.d/ \;
echo "deb [trusted=yes] file:$repository ./" > /etc/apt/sources.list.d/lab.list
apt-get clean
rm -rf /var/lib/apt/lists/*
[ ! -d $repository ] || apt-get -q update
