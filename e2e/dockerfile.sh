#!/usr/bin/env bash
# Builds the Dockerfile with buildah where no registry can be had: what it begins from is made of Debian's packages and the
# Rust toolchain of this machine. Needs root, Debian's buildah and mmdebstrap, and some 20 minutes.
#
#   dockerfile.sh FILE   a docker-archive of localhost/unimodel:built, for `e2e/cluster.sh import FILE`
set -euo pipefail
cd "$(dirname "$0")/.."
FILE=$(realpath -m "${1:?usage: dockerfile.sh FILE}")
WORK=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
# Images of its own, of which nothing is left.
buildah() { command buildah --root "$WORK/images" --runroot "$WORK/run" "$@"; }
trap 'buildah rmi --all --force >/dev/null 2>&1 || true; rm -rf "$WORK"' EXIT

release=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
toolchain=$(rustc "+$release" --print sysroot)
base=$WORK/base
mmdebstrap --quiet --variant=minbase --include=ca-certificates,g++,gcc,git,libc6-dev,make bookworm "$base"
cp -r /etc/apt/sources.list* "$base/etc/apt/"
cp /etc/ssl/certs/ca-certificates.crt "$base/etc/ssl/certs/"
mkdir -p "$base/usr/local/rust"
cp -a "$(realpath "$toolchain")/." "$base/usr/local/rust"
container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
rm -rf "$base"
buildah config --env PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin --env CARGO_HOME=/usr/local/cargo "$container"
buildah commit --quiet --rm "$container" localhost/rust:built >/dev/null

buildah bud --network host --build-arg BUILDER=localhost/rust:built --build-arg "REVISION=$(git rev-parse HEAD)" \
    --tag localhost/unimodel:built .
rm -f "$FILE"
buildah push --quiet localhost/unimodel:built "docker-archive:$FILE:localhost/unimodel:built"
