#!/bin/sh
# Asks a running server through clients that others wrote: tritonclient and kserve from PyPI, and grpcurl.
# Usage: scripts/test-clients.sh ADDRESS TASK ITEM_ID ITEM_ID
# The task must rank without a required context element; what the documents show asks `search` of the sample's schema.
# Needs python3 and Go; installs half a gigabyte under the cache once per version.
set -eu

[ $# -eq 4 ] || { echo "usage: $0 ADDRESS TASK ITEM_ID ITEM_ID" >&2; exit 2; }
address=$1 task=$2 first=$3 second=$4
clients="$(cd "$(dirname "$0")/.." && pwd)/server/tests/clients"
cache="${UNIMODEL_CACHE:-$HOME/.cache/unimodel}"

venv="$cache/venv-$(sha256sum "$clients/requirements.txt" | cut -c1-12)"
if [ ! -f "$venv/complete" ]; then
    mkdir -p "$cache"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$clients/requirements.txt"
    touch "$venv/complete"
fi

version=v1.9.4
grpcurl="$cache/grpcurl-$version/grpcurl"
if [ ! -x "$grpcurl" ]; then
    command -v go >/dev/null || { echo "error: grpcurl needs Go to be built: https://go.dev/dl" >&2; exit 1; }
    GOBIN="$cache/grpcurl-$version" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
fi

# By reflection alone: no .proto file.
services="$("$grpcurl" -plaintext "$address" list)"
for service in unimodel.v1.RankingService inference.GRPCInferenceService grpc.health.v1.Health; do
    echo "$services" | grep -qx "$service" || { echo "error: reflection does not list $service" >&2; exit 1; }
done
answer="$("$grpcurl" -plaintext -d "{\"task\": \"$task\", \"candidates\": {\"ids\": [\"$first\", \"x\"]}, \"timeout\": \"5s\"}" \
    "$address" unimodel.v1.RankingService/Rank)"
for part in "\"id\": \"$first\"" '"unknown": \[' '"modelVersion": "' '"dataTime": "'; do
    echo "$answer" | grep -q "$part" || { echo "error: no $part in $answer" >&2; exit 1; }
done
refused="$("$grpcurl" -plaintext -d '{"task": "no-such-task"}' "$address" unimodel.v1.RankingService/Rank 2>&1 || true)"
for part in 'Code: NotFound' '"reason": "UNKNOWN_TASK"'; do
    echo "$refused" | grep -q "$part" || { echo "error: no $part in $refused" >&2; exit 1; }
done
"$grpcurl" -plaintext -d '{}' "$address" grpc.health.v1.Health/Check | grep -q SERVING
echo "grpcurl: ok"

protoset="$(mktemp)"
trap 'rm -f "$protoset"' EXIT
"$grpcurl" -plaintext -protoset-out "$protoset" "$address" describe inference.GRPCInferenceService >/dev/null
"$venv/bin/python" "$clients/triton.py" "$address" "$task" "$first" "$second" "$protoset"
"$venv/bin/python" "$clients/kserve_client.py" "$address" "$task" "$first" "$second"
"$venv/bin/python" "$clients/documents.py" "$address" "$(dirname "$grpcurl")"
