#!/usr/bin/env bash
# cluster.sh start FOLDER [NODES] [accounting] | stop FOLDER
# A Slurm cluster of this machine alone, for tests: a controller and NODES virtual nodes (3 unless given), as root, on the
# loopback. Needs the Debian packages slurm-wlm and munge; with `accounting`, on ports of its own, also slurmdbd and
# mariadb-server. `start` prints the variable that programs then need.
# With bindfs, and without `accounting`, each node is a machine of its own as far as name, processes and files go: what
# lies in FOLDER/shared it sees through a file system that remembers for three seconds what files were like and which ones
# were not there, as NFS does, and whose locks no other machine sees.
set -euo pipefail
action=$1
folder=$(mkdir -p "$2" && cd "$2" && pwd)
nodes=${3:-3}
accounting=${4:-}
port=16917
[ -z "$accounting" ] || port=16957
export SLURM_CONF=$folder/slurm.conf

start_munge() {
    install -d -o munge -g munge -m 0755 /run/munge
    if [ ! -s /etc/munge/munge.key ]; then
        head -c 1024 /dev/urandom > /etc/munge/munge.key
        chown munge: /etc/munge/munge.key
        chmod 400 /etc/munge/munge.key
    fi
    munge -n > /dev/null 2>&1 || setpriv --reuid=munge --regid=munge --clear-groups munged
}

accounting_lines() {
    if [ -z "$accounting" ]; then
        echo "AccountingStorageType=accounting_storage/none"
        echo "JobAcctGatherType=jobacct_gather/none"
    else
        echo "AccountingStorageType=accounting_storage/slurmdbd"
        echo "AccountingStorageHost=127.0.0.1"
        echo "AccountingStoragePort=$((port + 2))"
        echo "JobAcctGatherType=jobacct_gather/linux"
        echo "JobAcctGatherFrequency=1"
    fi
}

# Jobs of the cluster with accounting may take no more memory than they asked for, where the machine's control groups are
# of the first version: the second one wants systemd.
has_memory_groups() {
    [ -n "$accounting" ] && [ -w /sys/fs/cgroup/memory ]
}

# Whether nodes can be machines: says so by the folder that they see late.
try_machines() {
    mkdir -p "$folder/shared"
    chmod 777 "$folder/shared"
    [ -z "$accounting" ] && unshare --uts --pid --mount --fork --kill-child --mount-proc sh -c '
        hostname machine && bindfs "$1" "$1" && mountpoint -q "$1"' sh "$folder/shared" > /dev/null 2>&1 ||
        rm -rf "$folder/shared"
}

start_node() {
    if ! [ -d "$folder/shared" ]; then
        slurmd -f "$SLURM_CONF" -N "$1"
        return
    fi
    setsid unshare --uts --pid --mount --fork --kill-child --mount-proc sh -c '
        hostname "$1"
        bindfs -f -o attr_timeout=3,entry_timeout=3,negative_timeout=3 "$2/shared" "$2/shared" &
        until mountpoint -q "$2/shared"; do kill -0 $! || exit 1; sleep 0.05; done
        exec slurmd -D -f "$SLURM_CONF" -N "$1"' sh "$1" "$folder" > "$folder/machine.$1.log" 2>&1 < /dev/null &
    echo $! > "$folder/machine.$1.pid"
}

start_accounting() {
    local socket=$folder/mariadb.sock
    mkdir -p "$folder/mariadb"
    mariadb-install-db --no-defaults --auth-root-authentication-method=normal --datadir="$folder/mariadb" > /dev/null
    mariadbd --no-defaults --user=root --datadir="$folder/mariadb" --socket="$socket" --bind-address=127.0.0.1 \
        --port=$((port + 3)) --pid-file="$folder/mariadbd.pid" > "$folder/mariadbd.log" 2>&1 &
    for _ in $(seq 60); do
        mariadb --no-defaults --socket="$socket" -e "create database if not exists slurm; create user if not exists
            slurm@localhost identified by 'slurm'; create user if not exists slurm@'127.0.0.1' identified by 'slurm';
            grant all on slurm.* to slurm@localhost; grant all on slurm.* to slurm@'127.0.0.1'" 2> /dev/null && break
        sleep 0.5
    done
    cat > "$folder/slurmdbd.conf" <<END
AuthType=auth/munge
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=root
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
END
    chmod 600 "$folder/slurmdbd.conf"
    # It looks for its file beside that of SLURM_CONF.
    slurmdbd
    for _ in $(seq 60); do
        sacctmgr --immediate --noheader show cluster > /dev/null 2>&1 && break
        sleep 0.5
    done
    sacctmgr --immediate add cluster test > /dev/null 2>&1 || true
}

write_configuration() {
    local host processors memory
    host=$(hostname -s)
    processors=$(nproc)
    memory=$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) / 1024))
    printf '%s\n' CgroupPlugin=cgroup/v1 ConstrainRAMSpace=yes ConstrainSwapSpace=yes AllowedSwapSpace=0 > "$folder/cgroup.conf"
    cat > "$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
# What is queued again waits a few seconds, by default some minutes.
AuthInfo=cred_expire=5
SchedulerParameters=sched_interval=2,bf_interval=2
ProctrackType=proctrack/linuxproc
TaskPlugin=$(has_memory_groups && echo task/cgroup || echo task/none)
$(accounting_lines)
SelectType=select/cons_tres
SelectTypeParameters=CR_Core${accounting:+_Memory}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
ReturnToService=2
SlurmctldPidFile=$folder/slurmctld.pid
# A number within a machine is none of this one.
SlurmdPidFile=$folder/slurmd.%n.$([ -d "$folder/shared" ] && echo inner || echo pid)
SlurmdSpoolDir=$folder/spool.%n
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdParameters=config_overrides
KillWait=10
MinJobAge=60
JobRequeue=1
END
    for n in $(seq "$nodes"); do
        mkdir -p "$folder/spool.n$n"
        echo "NodeName=n$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 100 + n)) CPUs=$processors RealMemory=$memory State=UNKNOWN"
    done >> "$SLURM_CONF"
    local shared="Nodes=n[1-$nodes] MaxTime=INFINITE OverSubscribe=YES:4 DefMemPerCPU=$((memory / 16))"
    # What comes by `urgent` takes the place of jobs of `main`, which have some seconds to write checkpoints.
    cat >> "$SLURM_CONF" <<END
PartitionName=main $shared Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent $shared PriorityTier=2
END
}

case $action in
start)
    mkdir -p "$folder/state"
    start_munge
    try_machines
    write_configuration
    [ -z "$accounting" ] || start_accounting
    slurmctld -f "$SLURM_CONF"
    for n in $(seq "$nodes"); do start_node "n$n"; done
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%T 2> /dev/null | sort -u)" = idle ] && break
        sleep 0.5
    done
    sinfo --Node >&2
    echo "export SLURM_CONF=$SLURM_CONF"
    ;;
stop)
    for pid in "$folder"/*.pid; do
        # Machines go with all that runs on them.
        case $pid in */machine.*) signal=KILL ;; *) signal=TERM ;; esac
        [ -f "$pid" ] && kill "-$signal" "$(cat "$pid")" 2> /dev/null || true
    done
    ;;
*)
    echo "cluster.sh start FOLDER [NODES] [accounting] | stop FOLDER" >&2
    exit 2
    ;;
esac
