#!/bin/sh
# Installs versitygw, the S3 server that the store's tests run against, once per version, and prints its path.
set -eu

version=v1.8.0
directory="${UNIMODEL_CACHE:-$HOME/.cache/unimodel}/versitygw-$version"
if [ ! -x "$directory/versitygw" ]; then
    command -v go >/dev/null || { echo "versitygw needs Go 1.25 or later to be built: https://go.dev/dl" >&2; exit 1; }
    mkdir -p "$directory"
    building="$(mktemp -d "$directory/build.XXXXXX")"
    trap 'rm -rf "$building"' EXIT
    GOBIN="$building" go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
    mv "$building/versitygw" "$directory/versitygw"
fi
echo "$directory/versitygw"
