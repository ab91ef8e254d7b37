#!/usr/bin/env bash
# The cluster tests: makes programs, image and two versions of a small model, brings a cluster up, installs by helm, runs
# the tests and brings the cluster down, whatever happened. Usage: e2e/run.sh [PART_OF_A_TEST'S_NAME]...
#
#   KUBECONFIG            uses this cluster, which has the images localhost/unimodel:e2e and localhost/store:e2e or those
#                         that UNIMODEL_IMAGE and STORE_IMAGE name, and leaves it; see docs/kubernetes.md
#   UNIMODEL_PROGRAMS     uses the programs of this folder in place of building them
#   UNIMODEL_E2E_KEEP=1   leaves the cluster up, for the next run and for looking at it
#
# e2e/run.sh --own never uses another cluster than one that it makes; where this machine cannot have one it says so, and ends well.
# e2e/run.sh --images makes the images in target/e2e/images and no more.
set -euo pipefail
cd "$(dirname "$0")/.."
KEPT=$PWD/target/e2e
STORE=$PWD/target/e2e-store
CARGO=${CARGO:-cargo}
IMAGE=${UNIMODEL_IMAGE:-localhost/unimodel:e2e}
# What follows the last colon is a tag only behind the last slash: before it, it is a registry's port.
[[ ${IMAGE##*/} == *:* ]] || IMAGE=$IMAGE:latest

programs() {
    [ -n "${UNIMODEL_PROGRAMS:-}" ] && return
    UNIMODEL_PROGRAMS=$PWD/target/debug
    make programs
}

# Two versions of one small model, the second one with other weights.
train() {
    [ "$STORE/complete" -nt "$UNIMODEL_PROGRAMS/unimodel" ] && return
    rm -rf "$STORE"
    mkdir -p "$STORE"
    local unimodel=$UNIMODEL_PROGRAMS/unimodel seed
    "$unimodel" data synthetic --seed 1 --users 120 --items 200 --events 6000 --out "$STORE/data" >/dev/null
    sed -i '/^training:/d' "$STORE/data/pipeline.yaml"
    cat >>"$STORE/data/pipeline.yaml" <<'Y'
model: {width: 16, hidden: 32, historyWidth: 16, textBuckets: 512, textWidth: 16, linear: {width: 16}}
training: {steps: 40, batch: 64, validateEvery: 5}
Y
    for seed in 1 2; do
        "$unimodel" train -f "$STORE/data/pipeline.yaml" --seed $seed --no-compare --work "$STORE/work-$seed" \
            --store "file://$STORE" --output json >/dev/null
        sleep 1 # A version's name is the second in which it was published.
    done
    touch "$STORE/complete"
}

images() {
    e2e/image.sh unimodel "$KEPT/images/unimodel.tar" "$UNIMODEL_PROGRAMS"/unimodel-{operator,server,gateway}
    e2e/image.sh store "$KEPT/images/store.tar" "$(scripts/install-versitygw.sh)"
    e2e/image.sh metrics "$KEPT/images/metrics.tar" "$(e2e/kubernetes/build.sh metrics-server)/metrics-server"
}

install() { # With the words before kubectl and helm.
    "$@" kubectl apply -f e2e/store.yaml >/dev/null
    if [ -n "${STORE_IMAGE:-}" ]; then
        "$@" kubectl -n unimodel-e2e set image deployment/store "versitygw=$STORE_IMAGE" >/dev/null
    fi
    "$@" helm upgrade --install unimodel-crds charts/unimodel-crds >/dev/null
    "$@" helm upgrade --install unimodel charts/unimodel --namespace unimodel-system --create-namespace --wait \
        --timeout 2m --set "image.repository=${IMAGE%:*},image.tag=${IMAGE##*:},replicas=2" >/dev/null
    "$@" kubectl -n unimodel-e2e rollout status deployment/store --timeout=1m >/dev/null
}

tests() { # With the words before cargo.
    local result=0
    export UNIMODEL_E2E_STORE=$STORE UNIMODEL_E2E_IMAGE=$IMAGE
    "$@" "$CARGO" test --offline --workspace --test together -- --ignored --test-threads=3 "${SHOW[@]}" "${FILTER[@]}" || result=$?
    # The others have operators of their own, and end them.
    "$@" helm uninstall unimodel --namespace unimodel-system --wait >/dev/null || result=$?
    "$@" "$CARGO" test --offline --workspace --test alone -- --ignored --test-threads=1 "${SHOW[@]}" "${FILTER[@]}" || result=$?
    return $result
}

if [ "${1:-}" = --own ]; then
    shift
    unset KUBECONFIG
    if why=$(e2e/cluster.sh possible); then
        :
    else
        echo "CLUSTER TESTS LEFT OUT: $why" >&2
        exit 0
    fi
fi
rm -rf "$KEPT"
mkdir -p "$KEPT"
programs
if [ "${1:-}" = --images ]; then
    images
    exit
fi
FILTER=("$@")
SHOW=()
$CARGO test --workspace --test together --test alone --no-run
train

if [ -n "${KUBECONFIG:-}" ]; then
    PATH=$(e2e/kubernetes/build.sh kubernetes):$(e2e/kubernetes/build.sh helm):$PATH
    finish() {
        kill "${FORWARD:-}" || true
        helm uninstall unimodel --namespace unimodel-system || true
        helm uninstall unimodel-crds || true
        kubectl delete -f e2e/store.yaml || true
    } 2>/dev/null
    trap finish EXIT
    # A test that is left out says why, which nobody would see of one that passes.
    SHOW=(--show-output)
    install env
    kubectl -n unimodel-e2e port-forward service/store 17070:7070 >/dev/null &
    FORWARD=$!
    UNIMODEL_E2E_PROXIED=1 UNIMODEL_E2E_S3=127.0.0.1:17070 tests env
else
    finish() {
        local code=$?
        [ $code -eq 0 ] || e2e/cluster.sh logs "$KEPT/cluster" || true
        [ -n "${UNIMODEL_E2E_KEEP:-}" ] || e2e/cluster.sh down
        exit $code
    }
    trap finish EXIT
    images
    e2e/cluster.sh up
    e2e/cluster.sh import "$KEPT"/images/*.tar
    e2e/cluster.sh exec kubectl apply -f e2e/metrics-server.yaml >/dev/null
    install e2e/cluster.sh exec
    UNIMODEL_E2E_AUDIT=$(e2e/cluster.sh audit)
    export UNIMODEL_E2E_AUDIT
    tests e2e/cluster.sh exec
fi
