# What the tables' scripts share: sourced, not run. The script defines usage() first.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
nibble=$root/build/release/cli/nibble
assets=${NIBBLE_ASSETS:-$root/../shared/assets}
work="" samples="" threads=2 only=()

die() { echo "error: $*" >&2; exit 1; }

# common_option NAME VALUE: takes an option that every table has, or fails.
common_option() {
  case $1 in
    --nibble) nibble=$2 ;;
    --assets) assets=$2 ;;
    --work) work=$2 ;;
    --samples) samples=$2 ;;
    --threads) threads=$2 ;;
    *) echo "error: unknown option '$1'" >&2; usage >&2; exit 2 ;;
  esac
}
# common_options ARGUMENT...: the whole command line of a table without options of its own; what is left are names in `only`.
common_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h) usage; exit 0 ;;
      -*) common_option "$1" "${2-}"; shift ;;
      *) only+=("$1") ;;
    esac
    shift
  done
}
need_program() { [ -x "$nibble" ] || die "no program at $nibble: build it, or name it with --nibble"; }
need_assets() { [ -d "$assets/models" ] || die "no models in $assets: name the assets with --assets or NIBBLE_ASSETS"; }
# A folder for models and images: --work is kept, another is removed at the end.
make_work() {
  if [ -z "$work" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
  fi
  mkdir -p "$work"
}
unpack_cifar10() {
  if [ ! -d "$work/cifar10/test" ] && [ -f "$assets/cifar10/unpack.sh" ]; then sh "$assets/cifar10/unpack.sh" "$work/cifar10"; fi
}
# Whether a table or model was asked for: all are, where none is named.
wanted() {
  [ ${#only[@]} -eq 0 ] && return 0
  local name
  for name in "${only[@]}"; do [ "$name" = "$1" ] && return 0; done
  return 1
}
# number FILE KEY: a number of a JSON object with two decimals, or a dash
number() {
  python3 -c 'import json, sys; v = json.load(open(sys.argv[1])).get(sys.argv[2]); print("-" if v is None else f"{v:.2f}")' "$1" "$2"
}
