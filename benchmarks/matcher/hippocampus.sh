#!/usr/bin/env bash
# The matcher on small MR crops: bash benchmarks/matcher/hippocampus.sh DATA OUT (DATA/images, DATA/labels of Decathlon Task04).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1 out=$2
mkdir -p "$out" && cd "$out"
alice prepare "$data/images" store --labels "$data/labels" --spacing 1 --modality mr --label-names 1=anterior,2=posterior
python "$here/centroids.py" store landmarks.csv
alice train-matcher store matcher --config matcher-hippocampus --threads 1
alice evaluate-matcher matcher store --landmarks landmarks.csv --split test --max-pairs 400 --mode direct --threads 1 \
  --out hippocampus-test-direct.json
