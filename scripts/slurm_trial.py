"""Tries to make `dynvis run --executor slurm` lose something, compute something twice or come to other results.

    tests/cli/slurm/cluster.sh start FOLDER 3      # prints the variable SLURM_CONF, which is to be set
    python3 scripts/slurm_trial.py --dynvis target/release/dynvis --kills 50 pipelines/quickstart.yaml
    python3 scripts/slurm_trial.py pipelines/paper.yaml -S vars.data=digits -S cnn.epochs=1

Needs a Slurm cluster, and to be its operator (nodes are set down and up); Python's standard library alone. The pipeline is
run once on this machine. Then it is run by Slurm in a project of its own, while the process that submits is killed
(SIGKILL) at random instants and started again, random jobs are cancelled (`scancel`), a random node is set down for some
seconds (`scontrol`), and trainings have a time limit of `--limit` minutes. After the last kill one run goes on undisturbed.
Where the pipeline is done before that, it begins anew with an empty cache: `--kills` counts all rounds together. All results
are compared with those of this machine by the hashes of their contents.

Every job goes through a wrapper (`launch` of the profile) that notes its start and its end, and `sbatch`, `squeue`, `scancel`
and `sacct` through wrappers that note how they were called. From that the report says how often each stage was started and
came to its end, and whether that had a reason: that it, or its node, was cancelled, or that it came to its time limit. The
random numbers come from `--seed`, which is printed; the cluster keeps its own time, so that a seed repeats the plan, not
every instant. The exit code is 1 where anything is wrong. `--keep` leaves the folder, with `trial.json`.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Results that hold times of this machine.
TIMED = {"speed", "time"}
# Around the program of every job: START and END lines, one file for each job.
WRAPPER = """#!/bin/sh
notes=$1
shift
folder=$3 token=$4
key=$(basename "$folder")
stage=$(sed -n 's/^ *"stage": "\\(.*\\)",$/\\1/p' "$folder/job.json")
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
file=$notes/$token-${SLURM_JOB_ID}-${SLURM_RESTART_COUNT:-0}
tell() { echo "$(date +%s.%N) $1 $key $job ${SLURM_RESTART_COUNT:-0} $stage $2" >> "$file"; }
tell START "$SLURMD_NODENAME"
asked=no
trap 'asked=yes; kill -TERM "$child" 2> /dev/null' TERM
"$@" &
child=$!
wait "$child"
code=$?
while kill -0 "$child" 2> /dev/null; do
    wait "$child"
    code=$?
done
ended=$folder/$token.${SLURM_RESTART_COUNT:-0}.ended
how=nothing
[ -e "$ended" ] && case $(cat "$ended") in
*'"stopped":{"has_progressed":true'*) how=checkpoint ;;
*'"stopped":{'*) how=stopped ;;
*'"said":{"Ok":'*) how=done ;;
*) how=failed ;;
esac
tell END "$code $how asked=$asked"
exit "$code"
"""
# Around a command of the queue.
COMMAND = """#!/bin/sh
echo "$(date +%s.%N) $*" >> "$TRIAL_NOTES/called-{name}"
exec {path} "$@"
"""
COMMANDS = ["sbatch", "squeue", "scancel", "sacct"]
OVER = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED TIMEOUT".split()


def ask(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


class Trial:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder
        self.random = random.Random(arguments.seed)
        self.program = str(Path(arguments.dynvis).resolve())
        self.pipeline = Path(arguments.pipeline)
        self.began = time.time()
        self.accidents = []
        self.faults = []
        self.down = None
        self.rounds = []
        self.kills = 0

    def say(self, text):
        print(f"{time.time() - self.began:8.1f} s  {text}", flush=True)

    def fault(self, text):
        self.faults.append(text)
        self.say(f"FAULT: {text}")

    def project(self, name):
        project = self.folder / name
        project.mkdir()
        source = self.pipeline.resolve().parent.parent
        for part in (self.pipeline.resolve().parent, source / "stages", source / "data"):
            if part.is_dir():
                shutil.copytree(part, project / part.name)
        return project

    def command(self, *more):
        settings = [word for setting in self.arguments.settings for word in ("-S", setting)]
        pipeline = f"{self.pipeline.resolve().parent.name}/{self.pipeline.name}"
        return [self.program, "run", pipeline, "--progress", "plain", *settings, *more]

    def results(self, project):
        """Hash of every result by stage and slot, of the last run."""
        told = subprocess.check_output([self.program, "runs", "--json", "-n", "1"], cwd=project)
        return {
            f"{stage['name']}/{output['slot']}": output["content"]
            for stage in json.loads(told)[0]["stages"]
            for output in stage["outputs"]
            if output["slot"] not in TIMED
        }

    def local(self):
        project = self.project("local")
        started = time.time()
        with open(project / "output", "wb") as output:
            code = subprocess.call(self.command(), cwd=project, stdout=output, stderr=output)
        if code != 0:
            sys.exit(f"the run on this machine ended with {code}:\n" + (project / "output").read_text()[-2000:])
        self.expected = self.results(project)
        self.say(f"on this machine: {len(self.expected)} results in {time.time() - started:.0f} s")

    def round(self):
        """A project of its own, to its end, or to the last kill and then to its end."""
        number = len(self.rounds)
        project = self.project(f"slurm-{number}")
        notes = project / "notes"
        commands = project / "commands"
        notes.mkdir()
        commands.mkdir()
        wrapper = project / "wrapper.sh"
        files = [(wrapper, WRAPPER)]
        for name in COMMANDS:
            if path := shutil.which(name):
                files.append((commands / name, COMMAND.format(name=name, path=path)))
        for file, text in files:
            file.write_text(text)
            file.chmod(0o755)
        a = self.arguments
        profile = [
            f"poll: {a.poll}",
            f"patience: {a.patience}",
            f"grace: {a.grace}",
            f"resubmit: {a.resubmit}",
            f"job: {{ launch: [{json.dumps(str(wrapper))}, {json.dumps(str(notes))}] }}",
            "rules:",
            f"  - {{ kinds: [train], job: {{ time: {a.limit} }} }}",
        ]
        (project / "slurm.yaml").write_text("\n".join(profile) + "\n")
        environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "TRIAL_NOTES": str(notes)}
        started = time.time()
        kills = starts = 0
        while True:
            starts += 1
            is_last = self.kills >= a.kills
            with open(project / "output", "ab") as output:
                process = subprocess.Popen(
                    self.command("--executor", "slurm"),
                    cwd=project,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                # Half of them while it starts and takes over, half later.
                lives = self.random.uniform(0, 1.5) if self.random.random() < 0.5 else self.random.uniform(1, a.life)
                deadline = time.time() + (a.patient if is_last else lives)
                while process.poll() is None and time.time() < deadline:
                    self.accident(notes, is_last)
                    time.sleep(min(0.2, max(0.0, deadline - time.time())))
                if process.poll() is None and not is_last:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    self.kills += 1
                    output.write(f"---- kill {self.kills}\n".encode())
                    continue
            if process.poll() is None:
                process.kill()
                self.fault(f"round {number}: did not come to its end within {a.patient} s")
                break
            if process.returncode != 0:
                # Whoever has to start it by hand after an error has made a manual step.
                tail = (project / "output").read_text(errors="replace")[-1500:]
                self.fault(f"round {number}: a run ended by itself with {process.returncode}:\n{tail}")
                if starts > a.kills + 20:
                    break
                continue
            break
        self.up()
        found = self.results(project)
        differ = sorted(name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name))
        if differ:
            self.fault(f"round {number}: other results: {differ}")
        left = [path.name for path in (project / "cache/jobs").glob("*")]
        if left:
            self.fault(f"round {number}: folders of jobs are left: {left}")
        queued = [job for job in self.jobs(notes) if job[1] not in OVER]
        if queued:
            self.fault(f"round {number}: jobs are left in the queue: {queued}")
        summary = self.account(number, project, notes)
        summary.update(
            results=len(found),
            differ=differ,
            kills=kills,
            seconds=round(time.time() - started, 1),
        )
        self.rounds.append(summary)
        self.say(f"round {number}: {json.dumps({k: v for k, v in summary.items() if k != 'stages'})}")

    def jobs(self, notes=None):
        """Id, state and name of jobs that the queue has; with `notes`, of those of that round alone."""
        lines = ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%j").splitlines()
        jobs = [line.split("|", 2) for line in lines]
        if notes is not None:
            called = notes / "called-sbatch"
            text = called.read_text() if called.exists() else ""
            jobs = [job for job in jobs if job[2] in text]
        return [tuple(job) for job in jobs if "~" in job[2]]

    def accident(self, notes, is_last):
        a = self.arguments
        if self.down and time.time() >= self.down[1]:
            self.up()
        # About `--accidents` in a minute, looked at five times a second.
        if is_last or self.random.random() > a.accidents / 300:
            return
        live = [job for job in self.jobs(notes) if job[1] in ("RUNNING", "PENDING")]
        if self.random.random() < 0.7 or self.down:
            if live:
                job = self.random.choice(live)
                ask("scancel", job[0])
                self.accidents.append((time.time(), "scancel", job[0], job[2]))
                self.say(f"scancel {job[0]} ({job[1]}, {job[2].split('~')[0]})")
        elif a.nodes:
            node = self.random.choice(a.nodes)
            ask("scontrol", "update", f"nodename={node}", "state=down", "reason=trial")
            self.down = (node, time.time() + self.random.uniform(2, 8))
            self.accidents.append((time.time(), "down", node, ""))
            self.say(f"node {node} set down")

    def up(self):
        if self.down:
            ask("scontrol", "update", f"nodename={self.down[0]}", "state=resume")
            self.down = None

    def account(self, number, project, notes):
        """Starts and ends of every stage's jobs, each start held against what came before."""
        attempts = collections.defaultdict(list)
        for file in sorted(notes.glob("*-*-*")):
            if file.name.startswith("called-"):
                continue
            attempt = None
            for line in file.read_text().splitlines():
                at, what, key, job, restart, stage, *rest = line.split(" ")
                if what == "START":
                    attempt = {"at": float(at), "job": job, "restart": int(restart), "stage": stage}
                    attempt.update(node=rest[0] if rest else "", end=None, how="ended from outside")
                    attempts[key].append(attempt)
                elif attempt:
                    attempt.update(end=float(at), how=rest[1], asked=rest[2])
        stages = {}
        starts = done = 0
        for key, found in attempts.items():
            found.sort(key=lambda attempt: attempt["at"])
            stage = next((a["stage"] for a in found if a["stage"]), key[:8])
            how = [attempt["how"] for attempt in found]
            starts += len(found)
            done += how.count("done")
            stages[stage] = [f"{a['job']}.{a['restart']} {a['how']}" for a in found]
            if how.count("done") > 1:
                self.fault(f"round {number}: {stage} came to its end {how.count('done')} times: {stages[stage]}")
            for before, after in zip(found, found[1:]):
                if before["end"] is None:
                    reasons = [
                        accident
                        for accident in self.accidents
                        if accident[1:3] in [("scancel", before["job"]), ("down", before["node"])]
                        and before["at"] - 2 <= accident[0] <= after["at"]
                    ]
                    if not reasons:
                        self.fault(
                            f"round {number}: {stage}: {before['job']}.{before['restart']} left no end, nobody cancelled "
                            f"it, and it was started again as {after['job']}.{after['restart']}"
                        )
                elif before["how"] == "done" and after["how"] == "nothing":
                    # A node that was set down in that moment: the queue starts the job again, which finds its end.
                    continue
                elif before["how"] == "done":
                    self.fault(f"round {number}: {stage} was started again after its end: {stages[stage]}")
                elif after["at"] < before["end"]:
                    self.fault(f"round {number}: {stage}: two attempts at once: {stages[stage]}")
                elif before["how"] not in ("checkpoint", "stopped") and before.get("asked") != "asked=yes":
                    self.fault(f"round {number}: {stage}: started again after {before['how']}: {stages[stage]}")
        told = subprocess.check_output([self.program, "runs", "--json", "-n", "100000"], cwd=project)
        published = collections.Counter(
            stage["key"] for run in json.loads(told) for stage in run["stages"] if stage["outcome"] == "ran"
        )
        for key, times in published.items():
            if times > 1:
                self.fault(f"round {number}: {key} is in {times} runs as one that executed")
        calls = {}
        for name in COMMANDS:
            file = notes / f"called-{name}"
            calls[name] = len(file.read_text().splitlines()) if file.exists() else 0
        return {
            "jobs' keys": len(attempts),
            "starts": starts,
            "ends": done,
            "checkpoints": sum(a["how"] == "checkpoint" for found in attempts.values() for a in found),
            "started more than once": sum(len(found) > 1 for found in attempts.values()),
            "calls": calls,
            "stages": stages,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--dynvis", default="target/release/dynvis")
    parser.add_argument("-S", dest="settings", action="append", default=[], help="a setting for `dynvis run`")
    parser.add_argument("--kills", type=int, default=50, help="of the process that submits")
    parser.add_argument("--accidents", type=float, default=6, help="cancelled jobs and nodes set down, a minute")
    parser.add_argument("--nodes", nargs="*", default=["n1", "n2", "n3"], help="that may be set down")
    parser.add_argument("--life", type=float, default=10, help="seconds that a submitter lives at most")
    parser.add_argument("--limit", type=float, default=1, help="minutes that a job of a training may take")
    parser.add_argument("--grace", type=int, default=15, help="seconds before that at which it writes a checkpoint")
    parser.add_argument("--poll", type=float, default=1)
    parser.add_argument("--patience", type=float, default=15)
    parser.add_argument("--resubmit", type=int, default=10)
    parser.add_argument("--patient", type=float, default=3600, help="seconds for the last run")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--keep", help="a folder for everything, which is left")
    arguments = parser.parse_args()
    if arguments.keep:
        Path(arguments.keep).mkdir(parents=True)
        folder, temporary = Path(arguments.keep).resolve(), None
    else:
        temporary = tempfile.TemporaryDirectory(prefix="slurm-trial-")
        folder = Path(temporary.name)
    trial = Trial(arguments, folder)
    print(f"seed {arguments.seed}")
    trial.local()
    try:
        while trial.kills < arguments.kills or not trial.rounds:
            trial.round()
    finally:
        trial.up()
    counts = collections.Counter(accident[1] for accident in trial.accidents)
    total = {
        "seed": arguments.seed,
        "kills": trial.kills,
        "cancelled": counts["scancel"],
        "nodes set down": counts["down"],
        "faults": trial.faults,
        "rounds": trial.rounds,
        "accidents": trial.accidents,
    }
    (folder / "trial.json").write_text(json.dumps(total, indent=1))
    print(
        f"{trial.kills} kills, {counts['scancel']} jobs cancelled, {counts['down']} times a node down, "
        f"{len(trial.rounds)} rounds: {len(trial.faults)} faults"
    )
    for fault in trial.faults:
        print(f"- {fault}")
    if temporary:
        temporary.cleanup()
    sys.exit(1 if trial.faults else 0)


if __name__ == "__main__":
    main()
