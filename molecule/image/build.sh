#!/bin/sh
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the image of the lab's hosts, and for bookworm the image of its DNS host and receivers as well.
# The base comes from a registry where one answers, else from mmdebstrap. What was built is kept in the user's cache,
# so that it comes back in seconds after "podman rmi".
# usage: build.sh [bookworm|trixie]     FORCE=1 builds anew; NO_REGISTRY=1 asks no registry
set -eu
cd "$(dirname "$0")"
export CONTAINERS_CONF="${CONTAINERS_CONF:-$(cd .. && pwd)/containers.conf}"
suite=${1:-bookworm}
node=localhost/mta-molecule:$suite
services=localhost/mta-services:$suite
[ "$suite" = bookworm ] || services=
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mailops-mta
stamp=$(cat packages.txt install.sh Containerfile | sha256sum | cut -c1-12)
saved=$cache/image-$suite-$stamp.tar

list() { sed -n "/^\[$1\]/,/^\[/{/^[[#]/d;p}" packages.txt | tr '\n' ' '; }
labelled() { [ "$(podman image inspect -f '{{index .Labels "mta.stamp"}}' "$1" 2>/dev/null)" = "$stamp" ]; }
ready() { labelled "$node" && { [ -z "$services" ] || labelled "$services"; }; }

mkdir -p "$cache"
rootfs=$cache/base-$suite.tar
trap 'rm -f "$rootfs.new" "$saved.new"' EXIT       # half of a file, of a full disk for one
exec 9> "$cache/lock"
flock 9        # two runs at once would build the same twice
if [ -z "${FORCE:-}" ]; then
    if ready; then
        echo "$node is up to date"
        exit 0
    fi
    if [ -f "$saved" ] && podman load -q -i "$saved" >/dev/null && ready; then
        echo "$node comes from $saved"
        exit 0
    fi
fi
base=docker.io/library/debian:$suite
if [ -n "${NO_REGISTRY:-}" ] || ! timeout 20 podman pull -q "$base" >/dev/null 2>&1; then
    echo "no registry answers: mmdebstrap makes the base"
    base=localhost/mta-base:$suite
    # No mirror is named: mmdebstrap then takes its own default with updates and security.
    [ -f "$rootfs" ] || { mmdebstrap --quiet --format=tar --variant=apt --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include=ca-certificates "$suite" "$rootfs.new" && mv "$rootfs.new" "$rootfs"; }
    podman import -q "$rootfs" "$base" >/dev/null
fi
make_image() {
    old=$(podman image inspect -f '{{.Id}}' "$2" 2>/dev/null || true)
    podman build -q --network host --target "$1" --label "mta.stamp=$stamp" --build-arg "BASE=$base" --build-arg "NODE=$(list node)" \
        --build-arg "ARCHIVE=$(list archive)" --build-arg "SERVICES=$(list services)" -t "$2" . >/dev/null
    [ -z "$old" ] || podman rmi "$old" >/dev/null 2>&1 || true      # stays while a container uses it
}
make_image node "$node"
[ -z "$services" ] || make_image services "$services"
rm -f "$cache/image-$suite-"*.tar
podman save -q -m -o "$saved.new" "$node" $services
mv "$saved.new" "$saved"
echo "$node was built"
