"""What a pipeline runner costs: dynvis, DVC and Snakemake on the same graphs of trivial stages, in one run.

    cargo build --release
    python3 -m venv .venv && .venv/bin/pip install -r benches/runner/requirements.txt
    .venv/bin/python benches/runner/compare.py --dynvis target/release/dynvis --markdown bench.md

Every stage copies one small file with one parameter of its own, so that the time is the runner's. Stages stand in chains of
ten. Each figure is of whole processes, from start to exit: wall seconds, processor seconds (with all children), and the
memory of the largest process, as the kernel counts them. No-op figures are medians.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHAIN = 10
# A graph's seed file: nothing may open it in a run that has nothing to do.
SEED = "seed.txt"
CHANGED = 5


def parameters(count):
    return [f"p{i}" for i in range(count)]


def upstream(i):
    """The file that stage i reads."""
    return SEED if i % CHAIN == 0 else f"out{i - 1}.txt"


class Dynvis:
    name = "dynvis"

    def __init__(self, program):
        self.program = str(Path(program).resolve())

    def version(self):
        return subprocess.check_output([self.program, "--version"], text=True).split()[-1]

    def write(self, folder, values):
        lines = ["name: chain", "stages:"]
        for i, value in enumerate(values):
            lines += [f"  s{i}:", "    command:"]
            if i % CHAIN == 0:
                lines.append(f'      run: [sh, -c, "cat {{files.0}} > out.txt; echo {value} >> out.txt"]')
                lines.append(f"      files: [{SEED}]")
            else:
                lines.append(f'      run: [sh, -c, "cat {{inputs.from}}/out.txt > out.txt; echo {value} >> out.txt"]')
                lines.append(f"      inputs: {{ from: s{i - 1} }}")
            lines.append("      outputs: { out: { path: out.txt } }")
        (folder / "p.yaml").write_text("\n".join(lines) + "\n")
        (folder / "stages").mkdir(exist_ok=True)

    def command(self):
        return [self.program, "run", "p.yaml"]

    def check(self, folder, count):
        runs = json.loads(subprocess.check_output([self.program, "runs", "--json", "-n", "1"], cwd=folder))
        outcomes = [stage["outcome"] for stage in runs[0]["stages"]]
        assert len(outcomes) == count, outcomes
        return outcomes.count("ran")


class Dvc:
    name = "DVC"

    def __init__(self):
        self.program = [sys.executable, "-m", "dvc"]

    def version(self):
        return subprocess.check_output([*self.program, "--version"], text=True).strip()

    def write(self, folder, values):
        stages = []
        for i in range(len(values)):
            stages += [
                f"  s{i}:",
                f"    cmd: sh -c 'cat {upstream(i)} > out{i}.txt; echo ${{p{i}}} >> out{i}.txt'",
                f"    deps: [{upstream(i)}]",
                f"    params: [p{i}]",
                f"    outs: [out{i}.txt]",
            ]
        (folder / "dvc.yaml").write_text("stages:\n" + "\n".join(stages) + "\n")
        (folder / "params.yaml").write_text("".join(f"p{i}: {value}\n" for i, value in enumerate(values)))
        if not (folder / ".dvc").exists():
            subprocess.check_call([*self.program, "init", "--no-scm", "--quiet"], cwd=folder)
            subprocess.check_call([*self.program, "config", "core.analytics", "false"], cwd=folder)

    def command(self):
        return [*self.program, "repro"]

    def check(self, folder, count):
        assert len(list(folder.glob("out*.txt"))) == count
        return None


class Snakemake:
    name = "Snakemake"

    def __init__(self):
        self.program = [sys.executable, "-m", "snakemake"]

    def version(self):
        return subprocess.check_output([*self.program, "--version"], text=True).strip()

    def write(self, folder, values):
        rules = [f"rule all:\n    input: expand('out{{i}}.txt', i=range({len(values)}))\n"]
        for i, value in enumerate(values):
            rules.append(
                f"rule s{i}:\n    input: '{upstream(i)}'\n    output: 'out{i}.txt'\n    params: p='{value}'\n"
                "    shell: 'cat {input} > {output}; echo {params.p} >> {output}'\n"
            )
        (folder / "Snakefile").write_text("\n".join(rules))

    def command(self):
        return [*self.program, "--cores", str(os.cpu_count()), "--quiet", "all"]

    def check(self, folder, count):
        assert len(list(folder.glob("out*.txt"))) == count
        return None


def measure(command, folder):
    """Wall seconds, processor seconds and MB of the largest process."""
    start = time.perf_counter()
    with open(folder / ".bench-output", "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} failed:\n" + (folder / ".bench-output").read_text(errors="replace"))
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss * 1024 / 1e6}


def median(measured):
    return {key: statistics.median(m[key] for m in measured) for key in measured[0]}


def opened(runner, folder):
    """Files of the project that a run opens for reading, as strace sees them; None without strace."""
    if shutil.which("strace") is None:
        return None
    log = folder / "strace.log"
    subprocess.check_call(
        ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", log, *runner.command()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = re.search(r'"([^"]+)", (\S+)', line)
        if match and "= -1" not in line and "O_DIRECTORY" not in line:
            found.append(match[1])
    return found


def is_data(path):
    """Inputs from outside, and outputs of stages; not what the runner itself keeps."""
    path = Path(path)
    return path.name == SEED or re.fullmatch(r"out\d*\.txt", path.name) is not None or "objects" in path.parts


def run_cell(runner, count, repeats, note):
    with tempfile.TemporaryDirectory(prefix="runner-") as name:
        folder = Path(name)
        (folder / SEED).write_text("seed\n")
        values = parameters(count)
        runner.write(folder, values)
        note(f"{runner.name}: first run of {count} stages")
        first = measure(runner.command(), folder)
        ran = runner.check(folder, count)
        assert ran in (None, count), ran
        # Time stamps that are young may not be trusted by a stat cache; users do not run again within two seconds.
        time.sleep(2.5)
        measure(runner.command(), folder)
        note(f"{runner.name}: nothing to do, {count} stages")
        noop = median([measure(runner.command(), folder) for _ in range(repeats)])
        ran = runner.check(folder, count)
        assert ran in (None, 0), ran
        files = opened(runner, folder) if count <= 100 else None
        # The last of a chain, so that nothing depends on it.
        values[CHANGED * CHAIN - 1] = "changed"
        runner.write(folder, values)
        note(f"{runner.name}: one parameter changed, {count} stages")
        changed = measure(runner.command(), folder)
        ran = runner.check(folder, count)
        assert ran in (None, 1), ran
        return {
            "runner": runner.name,
            "stages": count,
            "first": first,
            "per_stage_ms": 1000 * first["wall"] / count,
            "noop": noop,
            "changed": changed,
            "opened": files and len(files),
            "data_opened": files and sorted({f for f in files if is_data(f)}),
        }


def work(folder, count):
    """What the stages themselves take: the same programs by one shell, as many at a time as there are processors."""
    script = "\n".join(f"sh -c 'cat {SEED} > out{i}.txt; echo p{i} >> out{i}.txt'" for i in range(count))
    (folder / SEED).write_text("seed\n")
    (folder / "all.sh").write_text(script)
    return measure(["sh", "all.sh"], folder)["wall"] / count


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--dynvis", default="target/release/dynvis")
    arguments.add_argument("--stages", type=int, nargs="+", default=[100, 1000])
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--only", nargs="+", default=["dynvis", "DVC", "Snakemake"])
    arguments.add_argument("--markdown")
    arguments.add_argument("--json")
    arguments = arguments.parse_args()
    everything = {"dynvis": lambda: Dynvis(arguments.dynvis), "DVC": Dvc, "Snakemake": Snakemake}
    runners = [everything[name]() for name in arguments.only]
    note = lambda text: print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="runner-") as name:
        own = work(Path(name), 200)
    cells = []
    for count in arguments.stages:
        for runner in runners:
            # A slow peer's no-op is timed fewer times, which its size forgives.
            repeats = arguments.repeats if runner.name == "dynvis" else min(arguments.repeats, 3)
            cells.append(run_cell(runner, count, repeats, note))
    versions = ", ".join(f"{runner.name} {runner.version()}" for runner in runners)
    lines = [
        f"{versions}; {os.cpu_count()} processors, {platform.system()} {platform.release()}",
        "",
        f"A stage's own work takes {1000 * own:.1f} ms. Wall seconds (processor seconds):",
        "",
        "| | " + " | ".join(runner.name for runner in runners) + " |",
        "|---|" + "---|" * len(runners),
    ]

    def row(title, count, show):
        found = {cell["runner"]: cell for cell in cells if cell["stages"] == count}
        lines.append(f"| {title} | " + " | ".join(show(found[runner.name]) for runner in runners) + " |")

    seconds = lambda m: f"{m['wall']:.3f} s ({m['cpu']:.3f})"
    for count in arguments.stages:
        row(f"no-op, {count} stages", count, lambda c: seconds(c["noop"]))
        row(f"one parameter changed, {count} stages", count, lambda c: seconds(c["changed"]))
        row(f"first run, {count} stages, a stage", count, lambda c: f"{c['per_stage_ms']:.1f} ms")
        row(f"memory of a no-op, {count} stages", count, lambda c: f"{c['noop']['mb']:.0f} MB")
        row(f"memory of a first run, {count} stages", count, lambda c: f"{c['first']['mb']:.0f} MB")
    if any(cell["data_opened"] is not None for cell in cells):
        count = min(arguments.stages)
        row(
            f"files opened by a no-op, {count} stages (data files among them)",
            count,
            lambda c: "-" if c["opened"] is None else f"{c['opened']} ({len(c['data_opened'])})",
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"versions": versions, "own_ms": 1000 * own, "cells": cells}, indent=1))


if __name__ == "__main__":
    main()
