#!/usr/bin/env bash
# The forms of trained grids (docs/formats.md) in ONNX Runtime: every model that the runtime's test writes, run there and compared with nibble's simulation.
# Prints one row a form: the share of outputs that are equal, and the largest difference in steps of the output's grid.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/results/trained_forms.sh [--test PROGRAM] [--work DIR]

  --test   nibble_runtime_test                  [build/release/tests/unit/runtime/nibble_runtime_test]
  --work   for models and outputs, kept         [a temporary folder, removed]

ONNX Runtime is found as tools/peers/README.md says.
TEXT
}

root=$(cd "$(dirname "$0")/../.." && pwd)
test=$root/build/release/tests/unit/runtime/nibble_runtime_test
work=
while [ $# -gt 0 ]; do
  case $1 in
    --test) test=$2; shift ;;
    --work) work=$2; shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ -x "$test" ] || { echo "error: no program at $test: build nibble_runtime_test" >&2; exit 1; }
if [ -z "$work" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
NIBBLE_TRAINED_FORMS=$work "$test" --gtest_filter='TrainedGrids.AreWrittenForOtherRuntimes' >/dev/null
printf '%-32s %8s %10s %8s\n' form equal 'max steps' top-1
for model in "$work"/*.onnx; do
  base=${model%.onnx}
  /usr/bin/python3 - "$base" in <<'END'
import re, sys
import numpy as np
base = sys.argv[1]
shape = [int(n) for n in re.findall(r'\d+', open(base + '.input.shape').read())]
np.save(base + '.x.npy', np.fromfile(base + '.input', '<f4').reshape(shape))
END
  node "$root/tools/peers/ort_run.mjs" "$model" --input x="$base.x.npy" --output "$base.ort" >/dev/null
  /usr/bin/python3 - "$base" <<'END'
import os, sys
import numpy as np
base = sys.argv[1]
theirs = np.load(base + '.ort/y.npy')
ours = np.fromfile(base + '.output', '<f4').reshape(theirs.shape)
steps = np.unique(np.abs(np.concatenate([ours.ravel(), theirs.ravel()])))
steps = np.diff(steps)
step = steps[steps > 1e-7].min() if (steps > 1e-7).any() else 1.0
top1 = np.mean(ours.reshape(-1, ours.shape[-1]).argmax(1) == theirs.reshape(-1, ours.shape[-1]).argmax(1))
print(f'{os.path.basename(base):<32} {100 * np.mean(np.abs(ours - theirs) < step / 2):7.2f}% {np.abs(ours - theirs).max() / step:10.2f} {100 * top1:7.1f}%')
END
done
