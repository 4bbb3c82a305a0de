#!/bin/sh
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A throwaway CA with good and bad certificates.
# usage: authority.sh DOMAIN
set -eu
domain=$1
mkdir -p /root/authority
cd /root/authority
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
issue() { # name, days, subject alternative names
    [ ! -e "$1.pem" ] || return 0
    openssl req $curve -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days "$2" -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}
[ -e ca.pem ] || openssl req -x509 $curve -days 30 -subj '/CN=throwaway CA' -keyout ca.key -out ca.pem 2>/dev/null
issue exact 30 "DNS:mta-sts.exact.$domain"
issue wide 30 "DNS:*.wide.$domain"
issue renewed 30 "DNS:mta-sts.exact.$domain"
issue expired -1 "DNS:mta-sts.exact.$domain"
issue elsewhere 30 "DNS:mta-sts.elsewhere.$domain"
