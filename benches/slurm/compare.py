"""What a stage costs as a job of a Slurm cluster: dynvis and Snakemake on the same graph and cluster, in one run.

    cargo build --release
    tests/cli/slurm/cluster.sh start FOLDER 3      # prints the variable SLURM_CONF, which is to be set
    python3 -m venv .venv && .venv/bin/pip install -r benches/slurm/requirements.txt
    .venv/bin/python benches/slurm/compare.py --dynvis target/release/dynvis --markdown bench.md

Every stage copies one small file with one parameter of its own, and is one job. Stages stand in chains, so that a runner has
to learn of the end of each before it can submit the next; how soon it does is set the same for both: `--poll` seconds
between two looks at the queue. With `--defaults` both are also run as they come. Wall seconds are those of the whole
command; processor seconds those of the process that submits, with the commands of the queue that it calls; those on the
nodes are not in it. Calls of `sbatch` and others are counted by wrappers, the same for both.

Beside that stands what the cluster itself takes: the same chains by `sbatch --dependency`, submitted at once.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = ["sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo", "srun"]
# Snakemake gives its jobs none of Slurm's variables, not that of the cluster's configuration either, which `srun` needs.
COMMAND = """#!/bin/sh
echo "$*" >> "$CALLS/{name}"
export SLURM_CONF={conf}
exec {path} "$@"
"""


def upstream(i, length):
    """The file that stage i reads."""
    return "seed.txt" if i % length == 0 else f"out{i - 1}.txt"


class Dynvis:
    name = "dynvis"

    def __init__(self, program, poll):
        self.program = str(Path(program).resolve())
        self.poll = poll

    def version(self):
        return subprocess.check_output([self.program, "--version"], text=True).split()[-1]

    def write(self, folder, count, length):
        lines = ["name: chain", "stages:"]
        for i in range(count):
            lines += [f"  s{i}:", "    command:"]
            if i % length == 0:
                lines.append(f'      run: [sh, -c, "cat {{files.0}} > out.txt; echo p{i} >> out.txt"]')
                lines.append("      files: [seed.txt]")
            else:
                lines.append(f'      run: [sh, -c, "cat {{inputs.from}}/out.txt > out.txt; echo p{i} >> out.txt"]')
                lines.append(f"      inputs: {{ from: s{i - 1} }}")
            lines.append("      outputs: { out: { path: out.txt } }")
        (folder / "p.yaml").write_text("\n".join(lines) + "\n")
        (folder / "stages").mkdir()
        if self.poll:
            (folder / "slurm.yaml").write_text(f"poll: {self.poll}\n")

    def command(self):
        return [self.program, "run", "p.yaml", "--executor", "slurm"]

    def settings(self):
        return f"`poll: {self.poll}`" if self.poll else "`poll: 10`"

    def check(self, folder, count):
        runs = json.loads(subprocess.check_output([self.program, "runs", "--json", "-n", "1"], cwd=folder))
        outcomes = [stage["outcome"] for stage in runs[0]["stages"]]
        assert outcomes == ["ran"] * count, outcomes


class Snakemake:
    name = "Snakemake"

    def __init__(self, poll):
        self.program = [sys.executable, "-m", "snakemake"]
        self.poll = poll

    def version(self):
        own = subprocess.check_output([*self.program, "--version"], text=True).strip()
        code = "from importlib.metadata import version; print(version('snakemake-executor-plugin-slurm'))"
        return f"{own} (Slurm plugin {subprocess.check_output([sys.executable, '-c', code], text=True).strip()})"

    def write(self, folder, count, length):
        rules = [f"rule all:\n    input: expand('out{{i}}.txt', i=range({count}))\n"]
        for i in range(count):
            rules.append(
                f"rule s{i}:\n    input: '{upstream(i, length)}'\n    output: 'out{i}.txt'\n    params: p='p{i}'\n"
                "    shell: 'cat {input} > {output}; echo {params.p} >> {output}'\n"
            )
        (folder / "Snakefile").write_text("\n".join(rules))

    def command(self):
        poll = [] if not self.poll else [
            "--seconds-between-status-checks", str(self.poll),
            "--slurm-init-seconds-before-status-checks", str(self.poll),
        ]  # fmt: skip
        # Its own command `sacct` needs accounting, which not every cluster has.
        site = ["--slurm-status-command", "squeue", "--slurm-no-account", "--latency-wait", "5"]
        return [*self.program, "--executor", "slurm", "--jobs", "100", *site, *poll, "all"]

    def settings(self):
        told = "`--slurm-status-command squeue`"
        first = "`--slurm-init-seconds-before-status-checks"
        return told + (f", {first} {self.poll}`, `--seconds-between-status-checks {self.poll}`" if self.poll else "")

    def check(self, folder, count):
        assert len(list(folder.glob("out*.txt"))) == count


class Cluster:
    """The chains as the cluster has them without a runner."""

    name = "sbatch --dependency"

    def version(self):
        return subprocess.check_output(["sbatch", "--version"], text=True).strip()

    def write(self, folder, count, length):
        lines = ["set -e"]
        for i in range(count):
            after = "" if i % length == 0 else "--dependency=afterok:$id"
            copy = f"cat {upstream(i, length)} > out{i}.txt; echo p{i} >> out{i}.txt"
            lines.append(f"id=$(sbatch --parsable --output=/dev/null {after} --wrap '{copy}')")
        lines.append(f"while [ $(ls out*.txt 2> /dev/null | wc -l) -lt {count} ]; do sleep 0.2; done")
        (folder / "all.sh").write_text("\n".join(lines) + "\n")

    def command(self):
        return ["sh", "all.sh"]

    def settings(self):
        return "all submitted at once"

    def check(self, folder, count):
        assert len(list(folder.glob("out*.txt"))) == count


def measure(command, folder, environment):
    """Wall seconds, processor seconds with all children, MB of the largest process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with open(folder / ".bench-output", "wb") as output:
        code = subprocess.call(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        sys.exit(f"{command} failed:\n" + (folder / ".bench-output").read_text(errors="replace")[-5000:])
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def run_cell(runner, count, length, note):
    with tempfile.TemporaryDirectory(prefix="slurm-bench-", dir=os.environ.get("SHARED")) as name:
        folder = Path(name) / "project"
        calls, commands = Path(name) / "calls", Path(name) / "commands"
        for made in (folder, calls, commands):
            made.mkdir()
        for command in COMMANDS:
            if path := shutil.which(command):
                text = COMMAND.format(name=command, path=path, conf=os.environ.get("SLURM_CONF", ""))
                (commands / command).write_text(text if "SLURM_CONF" in os.environ else text.replace("export", "# export"))
                (commands / command).chmod(0o755)
        (folder / "seed.txt").write_text("seed\n")
        runner.write(folder, count, length)
        environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "CALLS": str(calls)}
        note(f"{runner.name}, {runner.settings()}: {count} stages in chains of {length}")
        measured = measure(runner.command(), folder, environment)
        runner.check(folder, count)
        counted = {file.name: len(file.read_text().splitlines()) for file in calls.iterdir()}
        # A job's end comes to the cluster a moment after its files.
        time.sleep(3)
        return {"runner": runner.name, "settings": runner.settings(), **measured, "calls": counted}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynvis", default="target/release/dynvis")
    parser.add_argument("--chains", type=int, default=5)
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--poll", type=int, default=1)
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--only", nargs="+", default=["cluster", "dynvis", "Snakemake"])
    parser.add_argument("--markdown")
    parser.add_argument("--json")
    a = parser.parse_args()
    count = a.chains * a.length
    note = lambda text: print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
    everything = {
        "cluster": lambda poll: Cluster(),
        "dynvis": lambda poll: Dynvis(a.dynvis, poll),
        "Snakemake": Snakemake,
    }
    polls = [a.poll, None] if a.defaults else [a.poll]
    runners = [
        everything[name](poll) for poll in polls for name in a.only if poll is not None or name != "cluster"
    ]
    cells = []
    for runner in runners:
        cells.append(run_cell(runner, count, a.length, note))
        note(json.dumps(cells[-1]))
    versions = ", ".join(dict.fromkeys(f"{runner.name} {runner.version()}" for runner in runners))
    lines = [
        f"{versions}; {os.cpu_count()} processors, {platform.system()} {platform.release()}; "
        f"{a.chains} chains of {a.length} stages.",
        "",
        "| | settings | wall | a stage | submitter's processor time | `sbatch` | `squeue` | others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        calls = dict(cell["calls"])
        first = [calls.pop(name, 0) for name in ("sbatch", "squeue")]
        others = ", ".join(f"`{name}` {times}" for name, times in sorted(calls.items())) or "none"
        lines.append(
            f"| {cell['runner']} | {cell['settings']} | {cell['wall']:.1f} s | {cell['wall'] / count:.2f} s | "
            f"{cell['cpu']:.2f} s | {first[0]} | {first[1]} | {others} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if a.markdown:
        Path(a.markdown).write_text(text)
    if a.json:
        Path(a.json).write_text(json.dumps(cells, indent=1))


if __name__ == "__main__":
    main()
