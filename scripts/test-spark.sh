#!/bin/sh
# Proves that the sample's SQL files are portable: runs them on Spark and compares every row with the label tables of
# the embedded engine. Needs Java 17 and python3; installs PySpark (456 MB) under target/.
set -eu

cd "$(dirname "$0")/.."
command -v java >/dev/null || { echo "error: Spark needs Java 17 or later" >&2; exit 1; }
unimodel=${UNIMODEL:-target/release/unimodel}
[ -x "$unimodel" ] || { echo "error: $unimodel is not there: run \`make build\`" >&2; exit 1; }

venv=target/spark/venv
if ! "$venv/bin/python" -c 'import pyspark, yaml' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check pyspark==4.3.0 pyyaml pyarrow
fi

scripts/fetch-movielens.sh >/dev/null
pipeline=manifests/samples/movielens/pipeline.yaml
"$unimodel" labels -f "$pipeline" --out target/spark/labels
"$venv/bin/python" scripts/test-spark.py "$pipeline" target/spark/labels target/spark/out
