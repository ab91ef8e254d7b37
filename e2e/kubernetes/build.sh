#!/usr/bin/env bash
# Builds the programs of a one-node Kubernetes from the Go module registry, each group once per version, and prints the
# folders they are in. Usage: build.sh [GROUP]..., a group being a folder here: its go.mod and go.sum pin what is built.
set -euo pipefail
cd "$(dirname "$0")"
cache="${UNIMODEL_CACHE:-$HOME/.cache/unimodel}"
export CGO_ENABLED=0

version() { # of the module $2 in the group $1
    awk -v module="$2" '$1 == module || $2 == module { print $NF; exit }' "$1/go.mod"
}

build() { # GROUP MODULE [LINKER_FLAGS]
    local group=$1 version folder packages
    version=$(version "$group" "$2")
    folder=$cache/$group-$version
    if [ ! -d "$folder" ]; then
        command -v go >/dev/null || { echo "error: $group needs Go 1.25 or later to be built: https://go.dev/dl" >&2; exit 1; }
        echo "Building $group $version, once ..." >&2
        mkdir -p "$cache"
        building=$(mktemp -d "$cache/building.XXXXXX")
        trap 'rm -rf "$building"' EXIT
        # -e: what tools.go imports are programs, which Go otherwise minds.
        packages=$(cd "$group" && go list -e -tags tools -f '{{join .Imports " "}}' .)
        # shellcheck disable=SC2086
        (cd "$group" && go build -trimpath -ldflags "-s -w ${3:-}" -o "$building/" $packages) >&2
        # Its package has no name of its own.
        [ ! -f "$building/server" ] || mv "$building/server" "$building/etcd"
        chmod 755 "$building"
        # Another build may have been quicker.
        mv -T "$building" "$folder" 2>/dev/null || [ -d "$folder" ]
    fi
    echo "$folder"
}

[ $# -gt 0 ] || set -- kubernetes coredns helm
for group; do
    case $group in
    kubernetes)
        number=$(version kubernetes k8s.io/kubernetes)
        minor=${number#v1.} flags=k8s.io/component-base/version
        build kubernetes k8s.io/kubernetes \
            "-X $flags.gitVersion=$number -X $flags.gitMajor=1 -X $flags.gitMinor=${minor%%.*}" ;;
    coredns) build coredns github.com/coredns/coredns ;;
    # What `helm template` believes of a cluster that it does not ask.
    helm) build helm helm.sh/helm/v3 "-X helm.sh/helm/v3/internal/version.version=$(version helm helm.sh/helm/v3) \
        -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34" ;;
    metrics-server) build metrics-server sigs.k8s.io/metrics-server ;;
    kwok) build kwok sigs.k8s.io/kwok ;;
    *) echo "error: $group is no group; there are kubernetes, coredns, helm, metrics-server, kwok" >&2; exit 2 ;;
    esac
done
