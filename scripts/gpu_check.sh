#!/usr/bin/env bash
# Everything that needs a GPU, in one go, on a machine that has one and nothing of dynvis but its program:
#
#   scripts/gpu_check.sh DYNVIS OUT [--short]
#
# DYNVIS is the program, OUT a folder for what it prints. Libraries of PyTorch's wheels are found by themselves where `python3` is
# that of PyTorch. Ends with a line for every check, and with 1 where one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
short=${3:-}
failed=0
report=""

check() { # NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$out/$name.txt" 2>&1; then
        report+="passed  $name ($((SECONDS - start)) s)"$'\n'
    else
        report+="FAILED  $name ($((SECONDS - start)) s): $(tail -n 1 "$out/$name.txt")"$'\n'
        failed=1
    fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r pipelines stages "$work/"

quickstart() { (cd "$work" && "$program" --cache "$work/$1" run pipelines/quickstart.yaml --device "$1" --progress plain); }
# One epoch from the same seed: losses agree to float noise.
epoch() { (cd "$work" && "$program" --cache "$work/epoch-$1" run pipelines/quickstart.yaml "cordsnet@seed=0" -S cordsnet.epochs=1 --device "$1" --progress plain \
    && "$program" --cache "$work/epoch-$1" show @ cordsnet@seed=0/training --format csv | tee "$work/epoch-$1.csv"); }
same_epoch() { python3 - "$work/epoch-cpu.csv" "$work/epoch-cuda.csv" <<'PY'
import csv, sys
(a,), (b,) = (list(csv.DictReader(open(path))) for path in sys.argv[1:])
for column in ("loss", "validation_loss"):
    x, y = float(a[column]), float(b[column])
    print(column, x, y, abs(x - y) / x)
    assert abs(x - y) <= 1e-3 * x, column
PY
}

check doctor "$program" doctor
check selftest "$program" selftest --device cuda
check epoch-cpu epoch cpu
check epoch-cuda epoch cuda
check same-epoch same_epoch
check quickstart-cuda quickstart cuda
check benchmark "$program" benchmark --device cuda --precision tf32 --batch 16 --steps 20
if [ "$short" != --short ]; then
    check gpu python3 benches/pytorch/gpu.py --dynvis "$program" --markdown "$out/gpu.md"
fi

printf '%s' "$report" | tee "$out/report.txt"
exit $failed
