#!/usr/bin/env bash
# Writes one model in every format and prints the table of docs/formats.md: what each costs, whether runtime and simulation give the same bits after the
# way through the file, and what ONNX Runtime makes of it.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tools/results/formats_table.sh --samples DIR [--nibble PROGRAM] [--model FLOAT.onnx] [--calibration DATA] [--work DIR] [--count N] [FORMAT...]

  --samples      folder that tools/peers/preprocess.py wrote: labels.csv and one .npy a sample
  --nibble       the program                            [build/release/cli/nibble]
  --model        the float classifier                   [NIBBLE_ASSETS/models/mlperf_resnet8.onnx]
  --calibration  images to calibrate on                 [random]
  --work         for models and outputs, kept           [a temporary folder, removed]
  --count        samples                                [200]
  FORMAT         only these rows, by name

ONNX Runtime is asked where node finds it (tools/peers/README.md); else its column has dashes.
TEXT
}

. "$(dirname "$0")/common.sh"
model=$assets/models/mlperf_resnet8.onnx
calibration=random count=200
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=$2; shift ;;
    --calibration) calibration=$2; shift ;;
    --count) count=$2; shift ;;
    --help | -h) usage; exit 0 ;;
    -*) common_option "$1" "${2-}"; shift ;;
    *) only+=("$1") ;;
  esac
  shift
done
need_program
[ -f "$model" ] || die "no model at $model: name it with --model"
[ -f "$samples/labels.csv" ] || { echo "error: --samples DIR is needed: tools/peers/preprocess.py writes it" >&2; usage >&2; exit 2; }
make_work
mkdir -p "$work/samples"
head -n $((count + 1)) "$samples/labels.csv" > "$work/samples/labels.csv"
tail -n +2 "$work/samples/labels.csv" | cut -d, -f1 | while read -r file; do ln -sf "$(realpath "$samples/$file")" "$work/samples/$file"; done

# logits DIR FILE.npy: outputs of `nibble run`, in the order of labels.csv, as one array
logits() {
  python3 - "$work/samples/labels.csv" "$1" "$2" <<'PY'
import csv, glob, os, struct, sys
def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<H", data[8:10])[0]
    return data[10 + size:]
rows = [r[0] for r in list(csv.reader(open(sys.argv[1])))[1:]]
folders = sorted(os.listdir(sys.argv[2]), key=int)
assert len(folders) == len(rows), (len(folders), len(rows))
body = b"".join(read(sorted(glob.glob(os.path.join(sys.argv[2], f, "*.npy")))[0]) for f in folders)
header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (len(rows), len(body) // 4 // len(rows))
header += " " * (63 - (10 + len(header)) % 64) + "\n"
open(sys.argv[3], "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body)
PY
}


# row NAME standard|packed OPTIONS...
row() {
  local name=$1 storage=$2
  shift 2
  wanted "$name" || return 0
  local file=$work/$name.onnx data=(--data "$calibration")
  [[ " $* " == *" --dynamic "* || " $* " == *float* ]] && data=()
  [ "$calibration" = random ] || [ ${#data[@]} -eq 0 ] || data+=(--samples 256)
  "$nibble" quantize "$model" "${data[@]}" --calibrate-method min_max --export "$storage" "$@" -o "$file" > "$work/$name.log" 2>&1 ||
    { tail -n 1 "$work/$name.log" >&2; return 1; }
  rm -rf "$work/run" "$work/simulated"
  "$nibble" run "$file" --data "$work/samples" --output "$work/run" > /dev/null 2>&1
  "$nibble" run "$file" --data "$work/samples" --output "$work/simulated" --simulate > /dev/null 2>&1
  local same=yes peer="-"
  diff -rq "$work/run" "$work/simulated" > /dev/null || same=NO
  "$nibble" evaluate "$file" --data "$work/samples" --reference "$model" --json > "$work/$name.json" 2> /dev/null
  "$nibble" inspect "$file" --json > "$work/$name.inspect.json"
  if [ "$storage" = standard ] && logits "$work/run" "$work/$name.npy" && peer=$(node "$root/tools/peers/ort_eval.mjs" "$file" --data "$work/samples" --against "$work/$name.npy" 2> "$work/$name.ort"); then
    peer=$(printf '%s' "$peer" | python3 -c 'import json, sys; print("%.2f" % json.load(sys.stdin)["agreement"])')
  elif [ "$storage" = standard ]; then
    peer="- ($(grep -v '^ ' "$work/$name.ort" | tail -n 1 | cut -c1-60))"
  fi
  echo "| $name | \`${*:-(default)}\` | $storage | $(stat -c %s "$file") | $(number "$work/$name.inspect.json" bits_per_weight) | $(number "$work/$name.json" top1) | $(number "$work/$name.json" agreement) | $same | $peer |"
}

echo "$(basename "$model"), $(stat -c %s "$model") bytes, $count samples."
echo
echo "| format | options | file | bytes | bits a weight | top-1 | agreement with float | runtime = simulation | same top-1 in ONNX Runtime |"
echo "|---|---|---|---|---|---|---|---|---|"
row w8a8 standard
for bits in 2 3 4 5 6 7; do row "w${bits}a8" standard --weight-bits $bits; done
for bits in 2 3 5 6 7; do row "w${bits}a8_packed" packed --weight-bits $bits; done
row w4a8_tensor standard --weight-bits 4 --per-tensor
row w4a8_affine standard --weight-bits 4 --weight-affine
row w4a8_first_last standard --weight-bits 4 --first-last 8
row w4a8_block32 standard --weight-bits 4 --block-size 32
for bits in 4 5 6 7; do row "w8a${bits}" standard --activation-bits $bits; done
row w8a16 standard --activation-bits 16
row w16a16 standard --weight-bits 16 --activation-bits 16
row w16a8 standard --weight-bits 16
row fixed_point standard --law fixed_point
row shift standard --law shift
row kmeans4_packed packed --weight-bits 4 --codebook kmeans
row kmeans4 standard --weight-bits 4 --codebook kmeans
row powers4_packed packed --weight-bits 4 --codebook powers_of_two
row weight_only8 standard --activation-bits float
row weight_only4 standard --weight-bits 4 --activation-bits float
row weight_only4_block32 standard --weight-bits 4 --activation-bits float --block-size 32
row weight_only4_block32_affine standard --weight-bits 4 --activation-bits float --block-size 32 --weight-affine
row weight_only4_block64 standard --weight-bits 4 --activation-bits float --block-size 64
row weight_only4_nbits standard --weight-bits 4 --activation-bits float --block-size 32 --quant-format qoperator
row weight_only3_packed packed --weight-bits 3 --activation-bits float --block-size 32
row dynamic standard --dynamic
row float16 standard --float16
row bfloat16 standard --bfloat16
