# The Debian 12 packages that nibble needs, and the one function that makes sure that they are there. Sourced, not run.

# What the library and the program are built with. nlohmann-json, CLI11, xxHash and the protobuf compiler are needed at build time only.
packages_build="g++ cmake ninja-build libfmt-dev nlohmann-json3-dev libcli11-dev libonnx-dev libprotobuf-dev protobuf-compiler libdnnl-dev
  libjpeg62-turbo-dev libpng-dev zlib1g-dev libxxhash-dev"
# What the tests need besides: GoogleTest, and Debian's ONNX for Python, which generates ONNX's own node tests and checks exported models.
packages_test="libgtest-dev libgmock-dev binutils python3 python3-onnx python3-numpy python3-pil"
# nibble train: libtorch, and Gloo's headers for training in several processes. Without them everything else is built.
packages_train="libtorch-dev libgloo-dev"
# scripts/test --aarch64: a cross compiler, an emulator, and what the kernels' tests are built from.
packages_aarch64="g++ g++-aarch64-linux-gnu qemu-user cmake ninja-build libfmt-dev libgtest-dev libgmock-dev"
# benchmarks/, which scripts/test builds as well.
packages_benchmark="libbenchmark-dev"
# Never installed by a script. node and npm: ONNX Runtime as an outside judge (tools/peers). clang-tidy and gcovr: the presets tidy and coverage.
# python3-torch: training the demo's network again (tools/demo).
packages_optional="nodejs npm clang-format clang-tidy gcovr python3-torch"

# missing_packages NAME...: prints those that are not installed.
missing_packages() {
  local name
  for name in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s ' "$name"
  done
}

# ensure_packages NAME...: installs what is missing, as root or through sudo; else says exactly what to install and returns 1.
ensure_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "note: this is no Debian system, so nothing is installed here; the build needs what Debian 12 calls: $(echo $*)" >&2
    return 0
  fi
  local missing
  missing=$(missing_packages "$@")
  [ -z "$missing" ] && return 0
  local as_root=""
  if [ "$(id -u)" != 0 ]; then
    # Without a terminal sudo cannot ask for a password, so it must work without one.
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
      as_root=sudo
    else
      echo "error: these packages are missing; install them as root, then run this again:" >&2
      echo "  apt-get update && apt-get install --no-install-recommends $missing" >&2
      return 1
    fi
  fi
  echo "installing: $missing"
  local log
  log=$(mktemp)
  if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "error: apt-get could not install them (its words are above); install them as root, then run this again:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends $missing" >&2
    return 1
  fi
  rm -f "$log"
}
