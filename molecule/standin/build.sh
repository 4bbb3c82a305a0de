#!/bin/sh
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the Debian package of the PowerMTA stand-in (it is not PowerMTA). The same files always make the same package.
# usage: build.sh OUTPUT.deb [VERSION]      VERSION 5.0r8+standin1; another one is for tests of upgrades and refusals
set -eu
output=$(realpath -m "${1:?usage: build.sh OUTPUT.deb [VERSION]}")
cd "$(dirname "$0")"
version=${2:-$(sed -n 's/^VERSION = "\(.*\)"/\1/p' powermta_standin/__init__.py)}
series=$(echo "$version" | sed 's/^\([0-9]*\.[0-9]*\).*/\1/')
stamp=$(cat build.sh package/* powermta_standin/*.py powermta_standin/*.txt | sha256sum | cut -c1-16)-$version
if [ -s "$output" ] && [ "$(cat "$output.stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "$output is up to date"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work" "$output.$$"' EXIT
tree=$work/tree
umask 022
install -d "$tree/DEBIAN" "$tree/usr/sbin" "$tree/usr/lib/powermta-standin/powermta_standin" "$tree/usr/lib/systemd/system" \
    "$tree/usr/share/powermta-standin" "$tree/etc/pmta"
install -m 0755 package/pmta package/pmtad package/pmtahttpd "$tree/usr/sbin"
install -m 0644 powermta_standin/*.py powermta_standin/*.txt "$tree/usr/lib/powermta-standin/powermta_standin"
sed -i "s/^VERSION = .*/VERSION = \"$version\"/" "$tree/usr/lib/powermta-standin/powermta_standin/__init__.py"
install -m 0644 package/*.service "$tree/usr/lib/systemd/system"
install -m 0644 package/config "$tree/usr/share/powermta-standin"
install -m 0644 package/config-defaults "$tree/etc/pmta"
for script in preinst postinst prerm postrm; do
    sed "s/@SERIES@/$series/" package/$script > "$tree/DEBIAN/$script"
    chmod 0755 "$tree/DEBIAN/$script"
done
sed "s/@VERSION@/$version/" package/control > "$tree/DEBIAN/control"
SOURCE_DATE_EPOCH=1700000000
export SOURCE_DATE_EPOCH
mkdir -p "$(dirname "$output")"
dpkg-deb --root-owner-group -Zgzip --build "$tree" "$work/package.deb" >/dev/null
mv "$work/package.deb" "$output.$$"
mv "$output.$$" "$output" # whoever copies it at this moment gets the old one or the new one, whole
echo "$stamp" > "$output.stamp"
echo "$output was built"
