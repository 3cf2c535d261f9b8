#!/usr/bin/env bash
# Everything that needs a GPU, in one go:
#
#   scripts/gpu_check.sh PROGRAM FOLDER [--short]
#
# PROGRAM is dynvis, FOLDER takes what the checks print. The machine needs nothing else of this project but the folders `pipelines`,
# `stages`, `scripts` and `benches`, no Rust and no network; `python3` with PyTorch for the comparison (left out with --short), whose
# wheels also serve as CUDA's libraries. Every check is reported when it ends; the last line counts failures, and so does the exit.
set -uo pipefail
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
short=${3:-}
cd "$(dirname "$0")/.."
failed=0
# PyTorch's wheels, wherever its interpreter is linked from.
VIRTUAL_ENV=${VIRTUAL_ENV:-$(python3 -c 'import sys; print(sys.prefix)' 2>/dev/null || true)}
export VIRTUAL_ENV
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r pipelines stages "$work/"
: >"$out/report.txt"

check() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS said=passed status=0
    shift 2
    timeout --signal=INT --kill-after=20 "$limit" "$@" >>"$out/$name.txt" 2>&1 || status=$?
    if [ $status -ne 0 ]; then
        said="FAILED ($status)"
        failed=$((failed + 1))
    fi
    echo "$said  $name, $((SECONDS - start)) s: $(tail -n 1 "$out/$name.txt" | cut -c1-160)" | tee -a "$out/report.txt"
}

# What cuDNN complains of goes to the selftest's output.
selftest() { CUDNN_LOGLEVEL_DBG=1 CUDNN_LOGDEST_DBG=stderr "$program" selftest --device cuda; }
run() { (cd "$work" && "$program" --cache "$work/$1" run pipelines/quickstart.yaml --device "$2" --progress plain "${@:3}"); }
# One epoch from the same seed.
epoch() {
    run "epoch-$1" "$1" "cordsnet@seed=0" -S cordsnet.epochs=1 || return 1
    (cd "$work" && "$program" --cache "$work/epoch-$1" show @ cordsnet@seed=0/training --format csv) >"$work/epoch-$1.csv"
}
# Losses agree to float noise.
same_epoch() {
    python3 - "$work/epoch-cpu.csv" "$work/epoch-cuda.csv" <<'PY'
import csv, sys
(a,), (b,) = (list(csv.DictReader(open(path))) for path in sys.argv[1:])
wrong = []
for column in ("loss", "validation_cross_entropy"):
    x, y = float(a[column]), float(b[column])
    print(f"{column}: {x} on the processor, {y} on the GPU, relative difference {abs(x - y) / x:.1e}")
    wrong += [column] * (abs(x - y) > 1e-3 * x)
sys.exit(f"too far apart: {', '.join(wrong)}" if wrong else 0)
PY
}
export program work
export -f selftest run epoch same_epoch

check doctor 60 "$program" doctor
check selftest 400 bash -c selftest
check epochs 240 bash -c 'epoch cpu && epoch cuda && same_epoch'
check quickstart 400 bash -c 'run quickstart cuda'
for precision in tf32 bfloat16; do
    check "benchmark-$precision" 120 "$program" benchmark --device cuda --precision $precision --batch 16 --steps 20
done
if [ "$short" != --short ]; then
    for areas in 8 2; do
        check "pytorch-R$areas" 570 python3 benches/pytorch/gpu.py --dynvis "$program" --areas $areas --markdown "$out/R$areas.md"
    done
fi
echo "$failed failed" | tee -a "$out/report.txt"
[ $failed -eq 0 ]
