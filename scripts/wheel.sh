#!/usr/bin/env bash
# Builds the wheel `dynvis`, the program and the Python module in one file: scripts/wheel.sh [FOLDER] puts it in FOLDER
# (dist if not given), and says its size. Needs `maturin` (pip install maturin), cargo and objdump.
#
# The wheel is for Python 3.10 and later (abi3), on Linux with the C library of this machine or a later one, which its
# name states (manylinux_2_N). For older ones run it where that is older: in the container manylinux_2_28 of PyPA.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
target=${CARGO_TARGET_DIR:-target}

cargo build --release --locked --workspace --bins
program=$target/release/dynvis

scripts=crates/python/dynvis.data/scripts
rm -rf crates/python/dynvis.data
mkdir -p "$scripts"
trap 'rm -rf crates/python/dynvis.data' EXIT
cp "$program" "$scripts/dynvis"
chmod 755 "$scripts/dynvis"

# Maturin looks at the module alone: the wheel must not promise more than the program keeps.
newest=$(objdump -T "$program" | grep -o 'GLIBC_2\.[0-9]*' | cut -d. -f2 | sort -nu | tail -1)
platform=manylinux_2_$((newest < 17 ? 17 : newest))
maturin build --release --locked --manifest-path crates/python/Cargo.toml --target-dir "$target/python" \
    --compatibility "$platform" --out "$out"
wheel=$(ls -t "$out"/dynvis-*.whl | head -1)
echo "$wheel: $(du -h --apparent-size "$wheel" | cut -f1)"
