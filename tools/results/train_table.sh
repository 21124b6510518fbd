#!/usr/bin/env bash
# Trains with every method and prints the tables of docs/training-results.md.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/results/train_table.sh [--nibble PROGRAM] [--assets DIR] [--work DIR] [--samples N] [--threads N] [--epochs N] [--seed N] [TABLE...]

Prints, as Markdown, accuracy after training: the trainer's own, the integer runtime's, and how often both name the same class.
  --nibble   the program                            [build/release/cli/nibble]
  --assets   models and images                      [NIBBLE_ASSETS, else ../shared/assets]
  --work     models, logs and unpacked images; runs that are there already are not run again  [a temporary folder, removed]
  --samples  train on N samples of each data set at most [all]
  --threads  [2]
  --epochs   of each method, where a table does not fix them [mnist: 3; cifar: 10; recipes: 3; demo: 120]
  --seed     [1]
  TABLE      mnist, cifar, recipes, demo [all]
TEXT
}

. "$(dirname "$0")/common.sh"
epochs="" seed=1
while [ $# -gt 0 ]; do
  case $1 in
    --epochs) epochs=$2; shift ;;
    --seed) seed=$2; shift ;;
    --help | -h) usage; exit 0 ;;
    -*) common_option "$1" "${2-}"; shift ;;
    *) only+=("$1") ;;
  esac
  shift
done
need_program
make_work

# train NAME ARGUMENT...: $work/NAME.onnx and NAME.json
train() {
  local name=$1 limit=()
  shift
  [ -z "$samples" ] || limit=(--samples "$samples")
  [ -s "$work/$name.json" ] && return 0
  "$nibble" train "$@" "${limit[@]}" -o "$work/$name.onnx" --seed "$seed" --threads "$threads" --json >"$work/$name.json.part" 2>"$work/$name.log" ||
    { echo "failed: $name: $(tail -n 1 "$work/$name.log")" >&2; return 1; }
  mv "$work/$name.json.part" "$work/$name.json"
}
header() {
  printf '\n**%s**\n\n| method | before training | after | against float | in the runtime | same class | epochs | images/s | bar |\n|---|---|---|---|---|---|---|---|---|\n' "$1"
}
# row NAME FLOAT LABEL BAR: one line; FLOAT is the name of the run that it is compared with
row() {
  [ -s "$work/$1.json" ] || { printf '| %s | failed: %s |\n' "$3" "$(tail -n 1 "$work/$1.log")"; return; }
  python3 - "$work/$1.json" "$work/$2.json" "$3" "$4" <<'PY'
import json, sys
run, base = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
show = lambda v: "-" if v is None else f"{v:.2f}"
speed = sorted(e["images_per_second"] for e in run["epochs"])[len(run["epochs"]) // 2]
print(f"| {sys.argv[3]} | {show(run.get('initial_top1'))} | {run['eval_top1']:.2f} | {run['eval_top1'] - base['eval_top1']:+.2f} | "
      f"{show(run['runtime_top1'])} | {show(run['runtime_agreement'])} | {len(run['epochs'])} | {speed:.0f} | {sys.argv[4]} |")
PY
}

if wanted mnist; then
  need_assets
  data=(--data "$assets/mnist/train-images-idx3-ubyte.gz" --eval-data "$assets/mnist/t10k-images-idx3-ubyte.gz" --batch 64)
  header "LeNet-5 with BatchNormalization on MNIST, ${samples:-60,000} images, seed $seed"
  train lenet5 --arch lenet5 "${data[@]}" --method none --epochs 3 --lr 0.05 --weight-decay 5e-4 --save-float "$work/lenet5.float.onnx"
  row lenet5 lenet5 "float" ">= 99.2"
  # method LABEL BAR OPTIONS...
  method() {
    local label=$1 bar=$2 name
    shift 2
    name=mnist_$(tr -c 'a-z0-9\n' _ <<<"${label,,}")
    train "$name" "$work/lenet5.onnx" "${data[@]}" --epochs "${epochs:-3}" --lr 0.01 "$@" || true
    row "$name" lenet5 "$label" "$bar"
  }
  method "ema 8/8" -.3 --method ema
  method "lsq 2/2" -.5 --method lsq --weight-bits 2 --activation-bits 2
  method "dsq: lsq 2/2" -.5 --method lsq --estimator dsq --weight-bits 2 --activation-bits 2
  method "twn" -.5 --method twn
  method "ttq" -.5 --method ttq
  method "inq 5" -.5 --method inq --weight-bits 5
  method "abc 3/3 bases" -.5 --method abc
  method "binaryconnect" -.8 --method binaryconnect
  method "bnn" -1.2 --method bnn
  method "xnor" -1.2 --method xnor
  method "dorefa 2/2" -.5 --method dorefa --weight-bits 2 --activation-bits 2
  method "pact with sawb 2/2" -.5 --weight-method sawb --activation-method pact --weight-bits 2 --activation-bits 2
  method "wrpn 2/2" -.5 --method wrpn --weight-bits 2 --activation-bits 2
  method "dorefa 4/4, gradients 6" -1 --method dorefa --weight-bits 4 --activation-bits 4 --gradient-bits 6
  method "dynamic_fixed_point 8/8/10" -1 --method dynamic_fixed_point --weight-bits 8 --activation-bits 8 --gradient-bits 10
  method "binaryconnect, stochastic" -1.5 --method binaryconnect --method-options stochastic=1
  method "lsq 4/4" -.5 --method lsq --weight-bits 4 --activation-bits 4
  method "pact with sawb 4/4" -.5 --weight-method sawb --activation-method pact --weight-bits 4 --activation-bits 4
  method "dorefa 4/4" -.5 --method dorefa --weight-bits 4 --activation-bits 4
  method "wrpn 4/4" -.5 --method wrpn --weight-bits 4 --activation-bits 4
  method "lsq 8/8" -.3 --method lsq
  method "pact 8/8" -.3 --method pact
  method "dorefa 8/8" -.3 --method dorefa
  method "wrpn 8/8" -.3 --method wrpn
fi

float=$work/cifar_float.onnx
cifar_float() {
  need_assets
  unpack_cifar10
  data=(--data "$work/cifar10/train" --eval-data "$work/cifar10/test" --augment crop,flip --batch 128)
  train cifar_float "$assets/models/cifar10_resnet20.onnx" "${data[@]}" --method none --epochs 8 --lr 0.03 --nesterov
}
if wanted cifar; then
  cifar_float
  header "ResNet-20 on CIFAR-10 (20,000 training and 5,000 test images that went through JPEG), seed $seed"
  row cifar_float cifar_float "float, fine-tuned: where all start" ">= 87"
  train cifar_none "$float" "${data[@]}" --method none --epochs "${epochs:-10}" --lr 0.02
  row cifar_none cifar_none "float, as many further epochs" "baseline"
  method() {
    local label=$1 bar=$2 name
    shift 2
    name=cifar_$(tr -c 'a-z0-9\n' _ <<<"${label,,}")
    train "$name" "$float" "${data[@]}" --epochs "${epochs:-10}" --lr 0.02 "$@" || true
    row "$name" cifar_none "$label" "$bar"
  }
  method "lsq 8/8" "-.5 (-.2)" --method lsq
  method "lsq 4/4" "-1.2 (-.7)" --method lsq --weight-bits 4 --activation-bits 4
  method "pact with sawb 4/4" "-1.2 (-.7)" --weight-method sawb --activation-method pact --weight-bits 4 --activation-bits 4
  method "lsq 3/3" "-2.5 (-1.2)" --method lsq --weight-bits 3 --activation-bits 3
  method "lsq 2/2" "-5 (-2.8)" --method lsq --weight-bits 2 --activation-bits 2
  method "twn" "-3 (-1.2)" --method twn
  method "ttq" "-3 (-1.2)" --method ttq
fi

if wanted recipes; then
  cifar_float
  header "ResNet-20, weights and activations of 4 bits, ${epochs:-3} epochs: one recipe, five estimators, seed $seed"
  four=(--weight-bits 4 --activation-bits 4 --epochs "${epochs:-3}" --lr 0.01)
  recipe() {
    local label=$1 name
    shift
    name=recipe_$(tr -c 'a-z0-9\n' _ <<<"${label,,}")
    train "$name" "$float" "${data[@]}" "${four[@]}" "$@" || true
    row "$name" cifar_float "$label" ""
  }
  recipe "ema (straight-through)" --method ema
  recipe "lsq" --method lsq
  recipe "lsq, soft staircase" --method lsq --estimator dsq
  recipe "pact with sawb" --weight-method sawb --activation-method pact
  recipe "lsq with a teacher" --method lsq --teacher "$float" --distill-alpha 0.5
fi

if wanted demo; then
  demo=$root/examples/demo
  header "The demo's depthwise network, one scale a weight tensor: post-training quantization collapses"
  "$nibble" evaluate "$demo/shapes.onnx" --data "$demo/evaluation" --json >"$work/demo_float.eval" 2>/dev/null
  python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); json.dump({"eval_top1": r["top1"], "runtime_top1": None, "runtime_agreement": None, "epochs": [{"images_per_second": 0}]}, open(sys.argv[2], "w"))' "$work/demo_float.eval" "$work/demo_float.json"
  row demo_float demo_float "float" ""
  train demo "$demo/shapes.onnx" --data "$demo/calibration" --eval-data "$demo/evaluation" --method lsq --per-tensor --epochs "${epochs:-120}" --lr 0.003 --optimizer adam \
    --teacher "$demo/shapes.onnx" --distill-alpha 0.3 --augment crop --batch 32 || true
  row demo demo_float "lsq 8/8, per tensor" "-1"
fi
