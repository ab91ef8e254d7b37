#!/usr/bin/env bash
# The operator with many objects: for each workload a control plane of its own whose nodes and pods KWOK plays, in a network
# namespace of its own; see docs/benchmarks/operator.md. Needs root. Usage: e2e/bench-operator.sh [--output json] [WORKLOAD]...
#
#   UNIMODEL_OPERATOR     measures this program in place of building it
#
# Each workload's numbers are in target/bench-operator/WORKLOAD.json.
set -euo pipefail
cd "$(dirname "$0")/.."
FOLDER=$PWD/target/bench-operator
CARGO=${CARGO:-cargo}
export UNIMODEL_CLUSTER=unimodel-bench UNIMODEL_NODES=20
UNIMODEL_E2E_AUDIT=$(e2e/cluster.sh audit)
export UNIMODEL_E2E_AUDIT

OUTPUT=text
if [ "${1:-}" = --output ]; then
    OUTPUT=${2:?text or json}
    shift 2
fi
[ $# -gt 0 ] || set -- 100x1 300x1 1000x1 250x4 100x1+

if [ -z "${UNIMODEL_OPERATOR:-}" ]; then
    $CARGO build --profile image -p unimodel-operator >&2
    UNIMODEL_OPERATOR=$PWD/target/image/unimodel-operator
fi
# It has little to do itself: what the tests have built already is good enough.
bench() { # With the words before cargo.
    "$@" "$CARGO" bench --offline --quiet --profile dev --workspace --bench operator -- "${ARGUMENTS[@]}"
}
$CARGO bench --profile dev --workspace --bench operator --no-run >&2

finish() {
    local code=$?
    [ $code -eq 0 ] || e2e/cluster.sh logs "$FOLDER/cluster" || true
    e2e/cluster.sh down
    exit $code
}
trap finish EXIT
mkdir -p "$FOLDER"
rm -f "$FOLDER/operator.log"
files=()
for workload; do
    files+=("$FOLDER/$workload.json")
    e2e/cluster.sh down
    e2e/cluster.sh up
    ARGUMENTS=(measure "$workload" --operator "$UNIMODEL_OPERATOR" "$FOLDER/$workload.json")
    bench e2e/cluster.sh exec >&2
done
ARGUMENTS=(report --output "$OUTPUT" "${files[@]}")
bench env
