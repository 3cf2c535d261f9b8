#!/usr/bin/env bash
# Everything that needs a GPU, in one go of at most 540 seconds, what tells most first:
#
#   scripts/gpu_check.sh PROGRAM FOLDER [--small] [--seconds N]
#
# PROGRAM is dynvis, or dynvis.xz, which is unpacked. FOLDER takes report.txt, to which everything is added as it comes,
# and R8.md. The machine needs nothing else of this project but the folders `pipelines`, `stages`, `scripts` and
# `benches`, no Rust and no network; `python3` with PyTorch for the comparison, whose wheels also serve as CUDA's
# libraries; `ncu` and `compute-sanitizer` are used where they are. Every step has a limit of its own, and none goes on
# when the time is over. With --small everything is tried in small sizes. The last lines sum up.
set -uo pipefail
export LC_ALL=C
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
given=$(realpath "$1") || exit 2
mkdir -p "$2" || exit 2
out=$(realpath "$2")
shift 2
seconds=540 small=
while [ $# -gt 0 ]; do
    case $1 in
        --small) small=yes ;;
        --seconds) seconds=${2:?--seconds takes a number}; shift ;;
        *) echo "unknown option: $1" >&2; exit 2 ;;
    esac
    shift
done
cd "$(dirname "$0")/.." || exit 2
SECONDS=0
# To end what is at work and to sum up.
grace=8
report=$out/report.txt
: >"$report"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r pipelines stages "$work/"
program=$given
if [[ $given == *.xz ]]; then
    program=$work/dynvis
    if command -v xz >/dev/null; then xz -dc "$given" >"$program"; else
        python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
            "$given" "$program"
    fi || exit 2
    chmod +x "$program"
fi
# PyTorch's wheels: its interpreter's, wherever that is linked from.
VIRTUAL_ENV=${VIRTUAL_ENV:-$(python3 -c 'import sys; print(sys.prefix)' 2>/dev/null || true)}
wheels=$(python3 - <<'PY' 2>/dev/null || true
import glob, os, site, sys
folders = dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()])
print(":".join(lib for folder in folders for lib in sorted(glob.glob(os.path.join(folder, "nvidia", "*", "lib")))))
PY
)
if [ -n "$small" ]; then
    # What stands in for a GPU may be slow.
    network="--areas 2 --side 16" steps=2 batches="2 4" torch_batch=2 selftest_limit=450
else
    network="--areas 8 --side 224" steps=100 batches="16 64" torch_batch=64 selftest_limit=150
fi
export VIRTUAL_ENV wheels work program out network steps small

summary=()
failed=0
left() { echo $((seconds - grace - SECONDS)); }
note() { summary+=("$1"); printf '%s\n' "$1" | tee -a "$report"; }
fail() {
    failed=$((failed + 1))
    note "FAILED    $1"
}
# The error of an output: its first line that is one, otherwise the last line that says something. Never a hint.
error_of() {
    local line
    line=$(grep -m 1 -aE '^(error:|[A-Za-z.]*Error:|[A-Za-z.]*Exception:)|ERROR SUMMARY: [1-9]|==ERROR==' "$1") ||
        line=$(grep -av '^hint:' "$1" | grep -a '[^[:space:]]' | tail -n 1)
    printf '%s' "${line:0:200}"
}

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS status=0 rest
    shift 2
    rest=$(left)
    if [ "$rest" -lt 3 ]; then
        note "left out  $name: no time is left"
        return
    fi
    [ "$limit" -le "$rest" ] || limit=$rest
    printf '\n======== %s, at %s s, at most %s s\n' "$name" "$SECONDS" "$limit" >>"$report"
    timeout --signal=INT --kill-after=5 "$limit" "$@" >"$work/step.txt" 2>&1 || status=$?
    # Of a flood the beginning and the end.
    if [ "$(wc -c <"$work/step.txt")" -gt 200000 ]; then
        { head -c 100000 "$work/step.txt"; printf '\n[...]\n'; tail -c 100000 "$work/step.txt"; } >>"$report"
    else
        cat "$work/step.txt" >>"$report"
    fi
    case $status in
        0) note "passed    $name, $((SECONDS - start)) s" ;;
        77) note "left out  $name: $(error_of "$work/step.txt")" ;;
        124 | 137) fail "$name: not done after $limit s; so far: $(error_of "$work/step.txt")" ;;
        *) fail "$name ($status), $((SECONDS - start)) s: $(error_of "$work/step.txt")" ;;
    esac
}

machine() {
    uname -srm
    nproc
    nvidia-smi || echo "no nvidia-smi"
    python3 --version
    python3 -c 'import torch as t; print("PyTorch", t.__version__, t.version.cuda, t.backends.cudnn.version())' ||
        echo "no PyTorch"
    python3 -m pip list 2>/dev/null | grep -i nvidia
    echo "wheels: $wheels"
    command -v ncu nsys compute-sanitizer
    "$program" --version
}
# As a user finds it; then with the loader's help, which a user may need.
doctor_alone() { env -u LD_LIBRARY_PATH "$program" doctor; }
# What cuDNN complains of goes to the selftest's output.
selftest() { CUDNN_LOGLEVEL_DBG=1 CUDNN_LOGDEST_DBG=stderr "$program" selftest --device cuda; }
benchmark() { # PRECISION BATCH
    local history=float32
    # The fastest way of each.
    [ "$1" != bfloat16 ] || history=bfloat16
    "$program" --cache "$work/cache" benchmark --device cuda $network --steps $steps --precision "$1" --batch "$2" \
        --history "$history" --repeats 4 --json
}
# The first batch is not recorded: every kernel of it is seen. Time and bytes of each, summed by name.
profile() {
    command -v ncu >/dev/null || { echo "ncu is not there"; return 77; }
    local short="--steps 3 --batch 16"
    ncu --clock-control none --csv --launch-count 1500 \
        --metrics gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum \
        "$program" --cache "$work/cache" benchmark --device cuda $network $short --precision bfloat16 --history bfloat16 \
        --repeats 1 \
        >"$work/ncu.csv" 2>"$work/ncu.err" || { tail -n 20 "$work/ncu.csv" "$work/ncu.err"; return 1; }
    python3 scripts/gpu_kernels.py "$work/ncu.csv"
}
sanitizer() {
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not there"; return 77; }
    compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$program" --cache "$work/cache" benchmark --device cuda --precision bfloat16 --history bfloat16 \
        --areas 3 --side 32 --steps 2 --batch 2 --repeats 1
}
run() {
    (cd "$work" && "$program" --cache "$work/$1" run pipelines/quickstart.yaml --device "$2" --progress plain "${@:3}")
}
# One epoch from the same seed.
epoch() {
    run "epoch-$1" "$1" "cordsnet@seed=0" -S cordsnet.epochs=1 || return 1
    (cd "$work" && "$program" --cache "$work/epoch-$1" show @ cordsnet@seed=0/training --format csv) \
        >"$work/epoch-$1.csv"
}
# Losses agree to float noise.
same_epoch() {
    epoch cuda && epoch cpu || return 1
    python3 - "$work/epoch-cpu.csv" "$work/epoch-cuda.csv" <<'PY'
import csv, sys
(a,), (b,) = (list(csv.DictReader(open(path))) for path in sys.argv[1:])
wrong = []
for column in ("loss", "validation_cross_entropy"):
    x, y = float(a[column]), float(b[column])
    print(f"{column}: {x} on the processor, {y} on the GPU, relative difference {abs(x - y) / x:.1e}")
    wrong += [column] * (abs(x - y) > 1e-3 * x)
sys.exit(f"error: too far apart: {', '.join(wrong)}" if wrong else 0)
PY
}
pytorch() { # BATCH
    python3 -c 'import torch' 2>/dev/null || { echo "PyTorch is not there"; return 77; }
    local device=cuda
    python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { [ -n "$small" ] && device=cpu; }
    python3 benches/pytorch/gpu.py --dynvis "$program" --device $device $network --steps $steps --batches "$1" \
        --longest 60 --markdown "$out/R8.md" --only "compiled, bf16" --only hoisted --only "published, float32"
}
quickstart() { if [ -n "$small" ]; then run quickstart cuda cnn -S cnn.epochs=1; else run quickstart cuda; fi; }
export -f machine doctor_alone selftest benchmark profile sanitizer run epoch same_epoch pytorch quickstart

step machine 20 bash -c machine
step "doctor, as it is" 40 bash -c doctor_alone
# Of an empty part the loader would make the folder here.
if [ -n "$wheels" ]; then
    export LD_LIBRARY_PATH=$wheels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
step doctor 40 "$program" doctor
step selftest $selftest_limit bash -c selftest
for precision in bfloat16 tf32; do
    for batch in $batches; do
        step "benchmark $precision, batch $batch" 50 bash -c "benchmark $precision $batch"
        note "          $(grep -am 1 '^{' "$work/step.txt" | cut -c1-500)"
    done
done
step "time and bytes of kernels" 90 bash -c profile
step "memory of kernels" 60 bash -c sanitizer
step "an epoch on both" 90 bash -c same_epoch
step "PyTorch, batch $torch_batch" 200 bash -c "pytorch $torch_batch"
step quickstart 120 bash -c quickstart

printf '\n======== in all, %s s\n' "$SECONDS" >>"$report"
printf '%s\n' "${summary[@]}" >>"$report"
echo "$failed failed" | tee -a "$report"
[ $failed -eq 0 ]
