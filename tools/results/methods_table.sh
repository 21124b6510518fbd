#!/usr/bin/env bash
# Quantizes the assets' classifiers with the methods of docs/methods.md and prints the tables of docs/results.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/results/methods_table.sh [--nibble PROGRAM] [--assets DIR] [--work DIR] [--samples N] [--threads N] [TABLE...]

Prints, as Markdown, top-1, agreement with the float network and KL for lists of methods.
  --nibble   the program            [build/release/cli/nibble]
  --assets   models and images      [NIBBLE_ASSETS, else ../shared/assets]
  --work     for models and unpacked images, kept [a temporary folder, removed]
  --samples  evaluate on N samples of each data set at most [all]
  --threads  [2]
  TABLE      per_tensor, auto, four_bits, blocks, no_data [all]
TEXT
}

. "$(dirname "$0")/common.sh"
common_options "$@"
need_program
need_assets
make_work
unpack_cifar10

# row MODEL LABEL DATA METHODS OPTIONS...: one line of a table. DATA is "calib" or "none".
row() {
  local model=$1 label=$2 data=$3 methods=$4
  shift 4
  local float=$assets/models/$model.onnx int8=$work/$model.int8.onnx result=$work/result.json calibration evaluation limit=()
  [ -f "$float" ] || { echo "skipped: no $model.onnx in the assets" >&2; return 0; }
  case $model in
    mobilenet* | squeezenet*) calibration=$assets/imagenet/calibration evaluation=$assets/imagenet/evaluation ;;
    kwt1*) calibration=$assets/speech evaluation=$assets/speech ;;
    *) calibration=$work/cifar10/train evaluation=$work/cifar10/test limit=(--samples 256) ;;
  esac
  if [ "$data" = none ]; then calibration=none limit=(); fi
  if ! "$nibble" quantize "$float" -o "$int8" --data "$calibration" "${limit[@]}" --methods "$methods" "$@" --threads "$threads" >"$work/log" 2>&1; then
    printf '| %s | %s | failed: %s | | |\n' "$model" "$label" "$(tail -n 1 "$work/log")"
    return
  fi
  local evaluate=(evaluate "$int8" --data "$evaluation" --reference "$float" --threads "$threads" --json)
  [ -z "$samples" ] || evaluate+=(--samples "$samples")
  local chosen
  chosen=$(sed -n 's/^note: methods: //p' "$work/log")
  "$nibble" "${evaluate[@]}" >"$result" 2>"$work/log" || { printf '| %s | %s | failed: %s | | |\n' "$model" "$label" "$(tail -n 1 "$work/log")"; return; }
  python3 - "$result" "$model" "$label${chosen:+ ($chosen)}" <<'PY'
import json, sys
r = json.load(open(sys.argv[1]))
print(f"| {sys.argv[2]} | {sys.argv[3]} | {r['top1']:.2f} ({r['top1'] - r['reference_top1']:+.2f}) | {r['agreement']:.2f} | {r['kl']:.4f} |")
PY
}
header() { printf '\n**%s**\n\n| model | methods | top-1 (against float) | agreement | KL |\n|---|---|---|---|---|\n' "$1"; }

v2=mobilenet_v2_1.0_224 v1=mobilenet_v1_0.75_224
if wanted per_tensor; then
  header "Weights and activations of 8 bits, one scale a weight"
  for methods in none equalization bias_correction equalization,bias_correction equalization,gptq; do row $v2 "$methods" calib $methods --per-tensor; done
fi
if wanted auto; then
  header "Weights and activations of 8 bits, per channel"
  for model in $v2 $v1 squeezenet1.1_gluon cifar10_resnet20 cifar10_resnet56 mlperf_resnet8 kwt1_keyword_transformer; do
    row $model default calib none
    row $model auto calib auto
  done
fi
if wanted four_bits; then
  header "Weights of 4 bits per channel, activations of 8; MobileNetV2's first and last layer 8 bits"
  for methods in none bias_correction gptq adaround; do row $v2 "$methods" calib $methods --weight-bits 4 --first-last 8; done
  row $v2 "gptq, affine weights" calib gptq --weight-bits 4 --first-last 8 --weight-affine --full-range
  for model in cifar10_resnet20 cifar10_resnet56; do
    for methods in none bias_correction gptq; do row $model "$methods" calib $methods --weight-bits 4; done
    row $model "gptq, affine weights" calib gptq --weight-bits 4 --weight-affine --full-range
  done
fi
if wanted blocks; then
  header "Weights of 4 bits in blocks of 32, float activations"
  for model in $v2 $v1 squeezenet1.1_gluon cifar10_resnet20 cifar10_resnet56 mlperf_resnet8 kwt1_keyword_transformer; do
    row $model gptq,bias_correction calib gptq,bias_correction --weight-bits 4 --activation-bits float --block-size 32 --weight-affine
  done
fi
if wanted no_data; then
  header "No data, per channel"
  for model in $v1 cifar10_resnet20; do
    for methods in none analytic_bias_correction; do row $model "$methods" none $methods; done
  done
fi
