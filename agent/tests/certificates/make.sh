#!/bin/sh
# Makes the certificates of the TLS tests anew. The keys guard nothing: they exist for these tests only.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
# sign NAME SUBJECT EXTENSIONS FROM TO
sign() {
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$work/$1.csr"
    printf '%s\n' "$3" > "$work/$1.ext"
    : > "$work/index"
    openssl ca -batch -notext -md sha256 -config "$work/ca.cnf" -in "$work/$1.csr" -extfile "$work/$1.ext" \
        -startdate "$4" -enddate "$5" -out "$1.pem"
}
cat > "$work/ca.cnf" <<CNF
[ca]
default_ca = own
[own]
database = $work/index
new_certs_dir = $work
rand_serial = yes
private_key = authority.key
certificate = authority.pem
policy = any
unique_subject = no
[any]
commonName = supplied
CNF

key authority
openssl req -new -x509 -key authority.key -subj "/CN=test authority" -days 36500 -out authority.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
for name in server other expired early client; do key "$name"; done
local='subjectAltName=DNS:localhost,IP:127.0.0.1'
long='20200101000000Z 21200101000000Z'
# shellcheck disable=SC2086
sign server server "$local" $long
# shellcheck disable=SC2086
sign other other 'subjectAltName=DNS:elsewhere.example' $long
sign expired expired "$local" 20200101000000Z 20200201000000Z
sign early early "$local" 20990101000000Z 21200101000000Z
# shellcheck disable=SC2086
sign client client 'extendedKeyUsage=clientAuth' $long
rm authority.key
