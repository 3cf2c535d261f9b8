#!/bin/sh
# A queue that starts jobs as processes of this machine, for tests. It is called by the names of Slurm's commands and of
# accidents. $FAKE_SLURM is its folder; files there ask for faults, each with how often:
#   sbatch-fails   nothing is taken             sbatch-loses   it is taken, and the answer is lost
#   squeue-fails   no answer                    squeue-lies    an empty answer
#   squeue-late    an answer after two seconds  oom, timeout   a job ends so before it starts
#   sbatch-limit   no array is taken, as where it has more members than a user may submit
#   hold           as long as it is there no job starts
home=$FAKE_SLURM
mkdir -p "$home/jobs"

# Whether a fault is due; counts it down.
due() {
    count=$(cat "$home/$1" 2>/dev/null) || return 1
    [ "${count:-0}" -gt 0 ] || return 1
    echo $((count - 1)) > "$home/$1"
}

# All processes of a job.
end_all() {
    session=$(cat "$home/jobs/$1/session" 2>/dev/null) || return 0
    for process in $(ps -o pid= -s "$session"); do kill -KILL "$process" 2>/dev/null; done
    return 0
}

state() { echo "$2" > "$home/jobs/$1/new" && mv "$home/jobs/$1/new" "$home/jobs/$1/state"; }

is_over() { case $(cat "$home/jobs/$1/state") in PENDING | RUNNING) return 1 ;; esac; }

case $(basename "$0") in
sbatch)
    due sbatch-fails && { echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller" >&2; exit 1; }
    case "$*" in *--array=*)
        due sbatch-limit && { echo "sbatch: error: Job violates accounting/QOS policy (job submit limit)" >&2; exit 1; }
        ;;
    esac
    echo "$*" >> "$home/submitted"
    tasks="" after=""
    for option in "$@"; do
        case $option in
        --job-name=*) name=${option#*=} ;;
        --array=0-*) tasks=$(seq 0 "${option##*-}") ;;
        --dependency=afterok:*) after=$(echo "${option#*:}" | tr : ' ') ;;
        --partition=nowhere) echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1 ;;
        esac
    done
    until mkdir "$home/lock" 2>/dev/null; do sleep 0.01; done
    id=$(($(cat "$home/last" 2>/dev/null || echo 0) + 1))
    echo "$id" > "$home/last"
    rmdir "$home/lock"
    cat > "$home/script-$id"
    for task in ${tasks:-none}; do
        job=$id
        [ "$task" = none ] || job=${id}_$task
        mkdir "$home/jobs/$job"
        echo "$name" > "$home/jobs/$job/name"
        echo "$after" > "$home/jobs/$job/after"
        state "$job" PENDING
        due oom && { state "$job" OUT_OF_MEMORY; continue; }
        due timeout && { state "$job" TIMEOUT; continue; }
        setsid "$(dirname "$0")/runner" "$job" "$id" "$task" < /dev/null > /dev/null 2>&1 &
    done
    due sbatch-loses && { echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1; }
    echo "$id"
    ;;
runner)
    job=$1 restart=0
    export SLURM_JOB_ID="$job" SLURM_CPUS_ON_NODE=1
    [ "$3" = none ] || export SLURM_ARRAY_JOB_ID="$2" SLURM_ARRAY_TASK_ID="$3"
    while :; do
        while [ -e "$home/hold" ]; do sleep 0.05; done
        for before in $(cat "$home/jobs/$job/after"); do
            while ! is_over "$before"; do sleep 0.05; done
            [ "$(cat "$home/jobs/$before/state")" = COMPLETED ] || state "$job" CANCELLED
        done
        is_over "$job" && exit
        state "$job" RUNNING
        [ "$restart" = 0 ] || export SLURM_RESTART_COUNT="$restart"
        setsid sh -c 'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sh "$2"' sh "$home/jobs/$job/session" "$home/script-$2"
        code=$?
        if [ -e "$home/jobs/$job/requeue" ]; then
            rm "$home/jobs/$job/requeue"
            restart=$((restart + 1))
            state "$job" PENDING
            continue
        fi
        is_over "$job" || if [ "$code" = 0 ]; then state "$job" COMPLETED; else state "$job" FAILED; fi
        exit
    done
    ;;
squeue)
    due squeue-late && sleep 2
    due squeue-fails && { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
    case "$*" in *--jobs*)
        for job in "$@"; do :; done
        exec cat "$home/jobs/$job/state"
        ;;
    esac
    due squeue-lies && exit 0
    echo "$*" >> "$home/asked"
    for folder in "$home"/jobs/*; do
        [ -e "$folder/state" ] || continue
        echo "$(basename "$folder")|$(cat "$folder/state")|here|None|$(cat "$folder/name")"
    done
    ;;
scancel)
    echo "$*" >> "$home/cancelled"
    for job in "$@"; do
        case $job in --*) continue ;; esac
        is_over "$job" && continue
        case "$*" in
        *--signal=TERM*) kill -TERM "$(cat "$home/jobs/$job/session")" ;;
        *)
            state "$job" CANCELLED
            end_all "$job"
            ;;
        esac
    done
    ;;
scontrol)
    [ "$(cat "$home/jobs/$2/state")" = RUNNING ] || { echo "Job is pending execution" >&2; exit 1; }
    touch "$home/jobs/$2/requeue"
    ;;
# There is no accounting.
sacct) exit 1 ;;
# Accidents: what happens to a job of that id.
expire) kill -TERM "$(cat "$home/jobs/$1/session")" ;;
lose)
    state "$1" NODE_FAIL
    end_all "$1"
    ;;
purge)
    end_all "$1"
    # Whoever started it may write its state meanwhile.
    until rm -rf "$home/jobs/$1" 2>/dev/null; do :; done
    ;;
esac
