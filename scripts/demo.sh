#!/bin/sh
# The main job on real input: one model of four tasks from MovieLens-100K, published, promoted, explained and hosted.
set -eu
cd "$(dirname "$0")/.."
unimodel=target/debug/unimodel
pipeline=manifests/samples/movielens/pipeline.yaml
store=file://./target/demo/store
rm -rf target/demo
mkdir -p target/demo

"$unimodel" validate -f "$pipeline"
# Half of the sample's steps and no single-task networks beside it: minutes less, and a little worse than in docs/benchmarks.md.
here="$PWD"
sed -e "s|\.\./\.\./\.\./data|$here/data|" -e "s|sql/|$here/manifests/samples/movielens/sql/|" \
    -e 's|^training:.*|training: {batch: 768, steps: 300}|' "$pipeline" >target/demo/pipeline.yaml
pipeline=target/demo/pipeline.yaml
"$unimodel" train -f "$pipeline" --no-compare --store "$store" --work target/demo/work --output json >target/demo/train.json
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' target/demo/train.json)
"$unimodel" evaluate --store "$store" --version "$version"
"$unimodel" advise --store "$store" --version "$version"
"$unimodel" promote --store "$store" "$version" --channel stable
"$unimodel" versions --store "$store"

# The four tasks in their environments, asked, changed and broken while they serve.
python3 scripts/demo-hosting.py
