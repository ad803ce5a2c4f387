#!/usr/bin/env bash
# The ablation of configs/ablation.yaml on the head-and-neck scans: bash benchmarks/ablation/run.sh RUN DATA OUT
# RUN is the folder of benchmarks/headneck/run.sh: its store, its pairs (of the second matcher), and as warm start its
# first matcher, which learnt within single scans alone. 80 minutes of one CPU core; goes on where it stopped.
# Table, tests and plot then go to benchmarks/results/ablation.
set -euo pipefail
run=$1 data=$2 out=$3
alice compare "$run/store" "$out" --config ablation --pairs "$run/pairs2" --init "$run/matcher1" \
  --landmarks "$data/landmarks.csv" --threads 1 --pretrain.workers 0 --pretrain.licence MIT "${@:4}"
python "$(dirname "$0")/keep.py" "$out"
