#!/usr/bin/env bash
# Renders manifests/install.yaml and namespace-install.yaml from the charts. With --check it only says whether they, and
# the chart's copy of the definition, are what would be rendered.
set -euo pipefail
cd "$(dirname "$0")/.."
helm=$(e2e/kubernetes/build.sh helm)/helm

render() { # FOLDER: manifests, and the chart of the definition with the copy that they are rendered from
    local made='# Made by `make generate` from charts; edit those.'
    local image='# The image unimodel:0.1.0 can be had nowhere: build and push it (docs/kubernetes.md), and put its name in both places.'
    cp -r charts/unimodel-crds "$1"
    cp crds/unifiedmodels.yaml "$1/unimodel-crds/files/"
    {
        echo "$made"
        echo "# All that all namespaces need:"
        echo "# sed 's|unimodel:0.1.0|REGISTRY/unimodel:0.1.0|' manifests/install.yaml | kubectl apply --server-side -f -"
        echo "$image"
        echo '---'
        printf 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: unimodel-system\n'
        "$helm" template unimodel-crds "$1/unimodel-crds"
        "$helm" template unimodel charts/unimodel --namespace unimodel-system
    } >"$1/install.yaml"
    {
        echo "$made"
        echo "# For one namespace, with Roles only, where somebody has applied crds/unifiedmodels.yaml:"
        echo "# sed 's|unimodel:0.1.0|REGISTRY/unimodel:0.1.0|' manifests/namespace-install.yaml |"
        echo "#   kubectl apply --server-side -n NAMESPACE -f -"
        echo "$image"
        "$helm" template unimodel charts/unimodel --namespace the-one-it-is-applied-to --set clusterWide=false |
            grep -v 'namespace: the-one-it-is-applied-to$'
    } >"$1/namespace-install.yaml"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
render "$work"
stale=0
while read -r made file; do
    if [ "${1:-}" != --check ]; then
        cp "$work/$made" "$file"
    elif ! cmp -s "$work/$made" "$file"; then
        echo "error: $file is stale: run \`make generate\`" >&2
        stale=1
    fi
done <<'FILES'
unimodel-crds/files/unifiedmodels.yaml charts/unimodel-crds/files/unifiedmodels.yaml
install.yaml manifests/install.yaml
namespace-install.yaml manifests/namespace-install.yaml
FILES
exit $stale
