#!/usr/bin/env bash
# The head-and-neck run of docs/how-to/head-and-neck.md: bash benchmarks/headneck/run.sh DATA OUT
# 70 minutes of one CPU thread up to the encoder (benchmarks/results/headneck). Every command goes on where it stopped when the script is started again.
set -euo pipefail
data=$1 out=$2
mkdir -p "$out" && cd "$out"

alice prepare "$data/images" store --labels "$data/labels" --splits "$data/splits.json" --spacing 4 --modality ct \
  --label-names 1=brainstem,2=spinal_cord,3=parotid_right,4=parotid_left --jobs 2

# The matcher: one round within single scans, one with 60 % of the crops from matched pairs of patients.
alice train-matcher store matcher1 --steps 400 --crop 48 --licence MIT
alice pair store matcher1 pairs1
alice train-matcher store matcher2 --init matcher1 --pairs pairs1 --steps 900 --learning-rate 1e-3 --crop 48 --licence MIT
for matcher in matcher1 matcher2; do
  for mode in robust direct; do
    alice evaluate-matcher $matcher store --landmarks "$data/landmarks.csv" --split val --mode $mode --out $matcher-val-$mode.json
  done
done

# Alice, on the pairs of the second matcher and from its backbone.
alice pair store matcher2 pairs2
alice pretrain store alice --init matcher2 --pairs pairs2 --steps 600 --learning-rate 5e-4 --crop 48 --licence MIT

# Segmenters, each scored on val while choosing and on test once.
alice finetune store linear-5 --encoder alice --labels 5 --head linear --licence MIT
alice finetune store linear-20 --encoder alice --labels 20 --head linear --licence MIT
for labels in 5 20; do
  alice finetune store alice-$labels --encoder alice --labels $labels --licence MIT
  alice finetune store scratch-$labels --labels $labels --licence MIT
done
for model in linear-5 linear-20 alice-5 scratch-5 alice-20 scratch-20; do
  for split in val test; do
    alice evaluate $model store --split $split --json > $model-$split.json
  done
done

# Calibration of the matcher's error estimates on the landmarks of `train`; then test, once.
alice calibrate-matcher matcher2 store --landmarks "$data/landmarks.csv" --split train --max-pairs 120
alice evaluate-matcher matcher2 store --landmarks "$data/landmarks.csv" --split test --out matcher-test.json
alice evaluate-matcher matcher2 store --landmarks "$data/landmarks.csv" --split test --mode direct --no-baselines \
  --out matcher-test-direct.json
