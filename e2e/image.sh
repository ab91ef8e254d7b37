#!/usr/bin/env bash
# Makes container images without a container engine, as docker-archives: a layer of Debian's C library, certificates and
# time zones, and a layer of programs. What a release is made of is the Dockerfile; this is quicker, and needs no registry.
#
#   image.sh unimodel FILE PROGRAM…   localhost/unimodel:e2e, of programs that were built here, also as :e2e-next
#   image.sh store FILE PROGRAM…      localhost/store:e2e
#   image.sh metrics FILE PROGRAM…    localhost/metrics:e2e
#   image.sh pause FILE               localhost/pause:local, which holds a pod's namespaces
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
CACHE=${UNIMODEL_CACHE:-$HOME/.cache/unimodel}
NAME=${1:?usage: image.sh unimodel|store|metrics|pause FILE [PROGRAM…]} FILE=$(realpath -m "${2:?give the file to write}")
shift 2
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

layer() { # FOLDER FILE: the same bytes of the same files
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$2" -C "$1" .
}

base() { # FILE: what is in every image, made once
    local cached=$CACHE/image-base-1.tar
    if [ ! -f "$cached" ]; then
        mkdir -p "$CACHE"
        "$HERE/../scripts/rootfs.sh" "$WORK/base"
        layer "$WORK/base" "$cached.$$"
        mv "$cached.$$" "$cached"
    fi
    cp "$cached" "$1"
}

image() { # TAG USER ENTRYPOINT_JSON LAYER…: into FILE
    local tag=$1 user=$2 entrypoint=$3 file digests='' layers=''
    shift 3
    for file; do
        digests+=${digests:+, }"\"sha256:$(sha256sum "$WORK/$file" | cut -d' ' -f1)\""
        layers+=${layers:+, }"\"$file\""
    done
    cat >"$WORK/config.json" <<J
{"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
 "config": {"User": "$user", "Entrypoint": $entrypoint, "WorkingDir": "/", "Env": ["PATH=/usr/bin"],
            "Labels": {"org.opencontainers.image.title": "$NAME", "org.opencontainers.image.licenses": "Apache-2.0"}},
 "rootfs": {"type": "layers", "diff_ids": [$digests]}}
J
    # Its second name is that of a next release.
    echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$tag\", \"$tag-next\"], \"Layers\": [$layers]}]" >"$WORK/manifest.json"
    mkdir -p "$(dirname "$FILE")"
    tar -cf "$FILE.$$" -C "$WORK" config.json manifest.json "$@"
    mv "$FILE.$$" "$FILE"
}

case $NAME in
pause)
    # The real one: its source is in the module that the cluster is built from.
    source=$(cd "$HERE/kubernetes/kubernetes" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c
    mkdir -p "$WORK/root"
    cc -Os -static -DVERSION=local -o "$WORK/root/pause" "$source"
    layer "$WORK/root" "$WORK/pause.tar"
    image localhost/pause:local 65535:65535 '["/pause"]' pause.tar ;;
unimodel | store | metrics)
    [ $# -gt 0 ] || { echo "error: give the programs of the image" >&2; exit 2; }
    base "$WORK/base.tar"
    mkdir -p "$WORK/root/usr/bin"
    for program; do
        strip -o "$WORK/root/usr/bin/$(basename "$program")" "$program"
    done
    layer "$WORK/root" "$WORK/programs.tar"
    image "localhost/$NAME:e2e" 65532:65532 '[]' base.tar programs.tar ;;
*) echo "error: $NAME is no image; there are unimodel, store, metrics, pause" >&2; exit 2 ;;
esac
