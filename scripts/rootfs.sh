#!/bin/sh
# Fills a folder with what a program of ours needs around it, and no shell: Debian's C library, certificates, time zones,
# and the user nonroot (65532). The Dockerfile and the cluster tests' image are made of it. Needs Debian's apt and dpkg.
set -eu

root=${1:?usage: rootfs.sh FOLDER}
mkdir -p "$root/etc/ssl/certs" "$root/tmp" "$root/usr/bin"
chmod 1777 "$root/tmp"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages="libc6 libgcc-s1 ca-certificates tzdata"
# shellcheck disable=SC2086
(cd "$work" && chmod 755 . && { apt-get download -qq $packages 2>/dev/null || { apt-get update -qq && apt-get download -qq $packages; }; }) >&2
for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$root"
done
find "$root/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/lintian" "$root/usr/share/locale" \
    "$root/usr/share/ca-certificates" "$root/usr/sbin"
