#!/usr/bin/env bash
# Quantizes every classifier of the assets with every observer and prints the tables of docs/results.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/results/observers_table.sh [--nibble PROGRAM] [--assets DIR] [--work DIR] [--samples N] [--threads N] [MODEL...]

Prints, as Markdown, top-1 and agreement with the float network of every classifier in DIR under every calibration method.
  --nibble   the program            [build/release/cli/nibble]
  --assets   models and images      [NIBBLE_ASSETS, else ../shared/assets]
  --work     for models and unpacked images, kept [a temporary folder, removed]
  --samples  evaluate on N samples of each data set at most [all]
  --threads  [2]
  MODEL      only these, by name without .onnx
TEXT
}

. "$(dirname "$0")/common.sh"
common_options "$@"
need_program
need_assets
make_work

# row MODEL METHOD CALIBRATION EVALUATION CALIBRATION_SAMPLES: one line of the table
row() {
  local float=$assets/models/$1.onnx int8=$work/$1.int8.onnx report=$work/report.json result=$work/result.json note="" limit=()
  [ -z "$5" ] || limit=(--samples "$5")
  if ! "$nibble" quantize "$float" -o "$int8" --data "$3" "${limit[@]}" --calibrate-method "$2" --threads "$threads" --report "$report" >"$work/log" 2>&1; then
    printf '| %s | failed: %s | | |\n' "$2" "$(tail -n 1 "$work/log")"
    return
  fi
  local evaluate=(evaluate "$int8" --data "$4" --reference "$float" --threads "$threads" --json)
  [ -z "$samples" ] || evaluate+=(--samples "$samples")
  "$nibble" "${evaluate[@]}" >"$result" 2>"$work/log" || { printf '| %s | failed: %s | | |\n' "$2" "$(tail -n 1 "$work/log")"; return; }
  if [ "$2" = auto ]; then note=" ($(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["method"])' "$report"))"; fi
  if [ ! -s "$work/header" ]; then
    printf '\n**%s**: float %s, %s samples\n\n| method | top-1 | agreement | KL |\n|---|---|---|---|\n' "$1" "$(number "$result" reference_top1)" \
      "$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["samples"])' "$result")"
    echo done >"$work/header"
  fi
  printf '| %s%s | %s | %s | %s |\n' "$2" "$note" "$(number "$result" top1)" "$(number "$result" agreement)" \
    "$(python3 -c 'import json, sys; v = json.load(open(sys.argv[1])).get("kl"); print("-" if v is None else f"{v:.4f}")' "$result")"
}

# table MODEL CALIBRATION EVALUATION [CALIBRATION_SAMPLES]
table() {
  wanted "$1" || return 0
  [ -f "$assets/models/$1.onnx" ] || { echo "skipped: no $1.onnx in the assets" >&2; return 0; }
  : >"$work/header"
  local method
  for method in auto min_max average moving_average mean_std percentile entropy mse aciq power_of_two; do row "$1" "$method" "$2" "$3" "${4:-}"; done
}

if wanted cifar10_resnet20 || wanted cifar10_resnet56 || wanted mlperf_resnet8; then unpack_cifar10; fi

imagenet="$assets/imagenet/calibration $assets/imagenet/evaluation"
cifar10="$work/cifar10/train $work/cifar10/test 100"
# shellcheck disable=SC2086  # two or three words each
{
  table mobilenet_v2_1.0_224 $imagenet
  table mobilenet_v1_0.75_224 $imagenet
  table squeezenet1.1_gluon $imagenet
  table cifar10_resnet20 $cifar10
  table cifar10_resnet56 $cifar10
  table mlperf_resnet8 $cifar10
  table mnist_cntk "$assets/mnist/train-images-idx3-ubyte.gz" "$assets/mnist/t10k-images-idx3-ubyte.gz" 100
  table kwt1_keyword_transformer "$assets/speech" "$assets/speech"
}
