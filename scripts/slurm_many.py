"""Runs a pipeline of 10,000 small stages by `dynvis run --executor slurm` on a simulated queue, and measures the process
that submits: its memory, its processor time while jobs wait and while they run, what it asks the queue, and, with
`strace`, what it does to the file system.

    cargo build --release
    python3 scripts/slurm_many.py --dynvis target/release/dynvis                 # 1,000 chains of ten
    python3 scripts/slurm_many.py --chains 100 --jobs 500 --json many.json

The queue is this process: `sbatch`, `squeue`, `scancel`, `scontrol` and `sacct` are small programs that ask it over a
socket, so that the cost of the queue is not counted to `dynvis`. It takes arrays, starts no job in the first `--hold`
seconds, and then runs jobs as processes of this machine, `--slots` at once. The first stage of the first chains takes
`--first` seconds more, so that there is a while in which jobs run and nothing else happens. Three phases are told apart:

    waits      all jobs that were submitted wait in the queue
    runs       as many as there is room for run, and nothing ends
    works      jobs end and are submitted

Processor seconds are those of the submitting process itself (`/proc/PID/stat`), those of the commands that it calls stand
beside them. Memory is `VmHWM`. Calls of the file system are counted by `strace` over `--strace` seconds of the first two
phases, which are not counted for processor time.
"""

import argparse
import collections
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CLIENT = """#!{python} -SE
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect({socket!r})
name = os.path.basename(sys.argv[0])
script = sys.stdin.read() if name == "sbatch" and not sys.argv[1].startswith("--version") else ""
s.sendall(json.dumps([name, sys.argv[1:], script, dict(os.environ)]).encode() + b"\\n")
code, out, err = json.loads(s.makefile("rb").readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
COMMANDS = ["sbatch", "squeue", "scancel", "scontrol", "sacct"]
# Seconds for which a queue still lists jobs that have ended.
LISTED = 300
OVER = ("COMPLETED", "FAILED", "CANCELLED")


class Queue:
    """Jobs in order of their submission; one thread starts them, and hears of their ends."""

    def __init__(self, folder, slots, hold):
        self.folder = folder
        self.slots = slots
        self.hold = hold
        self.lock = threading.Lock()
        self.jobs = {}
        self.waiting = collections.deque()
        self.running = {}
        self.last = 0
        self.calls = collections.Counter()
        self.most = 0
        self.submitted = None
        self.bytes = 0

    def ask(self, name, arguments, script, environment):
        with self.lock:
            self.calls[name] += 1
            return getattr(self, name)(arguments, script, environment)

    def sbatch(self, arguments, script, environment):
        if arguments == ["--version"]:
            return 0, "slurm 22.05.8\n", ""
        option = lambda what: next((a.split("=", 1)[1] for a in arguments if a.startswith(f"--{what}=")), None)
        self.last += 1
        file = self.folder / f"script-{self.last}"
        file.write_text(script)
        array = option("array")
        tasks = range(int(array.split("-")[1]) + 1) if array else [None]
        self.submitted = self.submitted or time.time()
        for task in tasks:
            job = str(self.last) if task is None else f"{self.last}_{task}"
            self.jobs[job] = {
                "name": option("job-name"),
                "state": "PENDING",
                "script": file,
                "environment": environment,
                "task": task,
                "array": self.last,
            }
            self.waiting.append(job)
        live = len(self.waiting) + len(self.running)
        self.most = max(self.most, live)
        return 0, f"{self.last}\n", ""

    def squeue(self, arguments, script, environment):
        if "--jobs" in arguments:
            job = self.jobs.get(arguments[-1])
            return (0, job["state"] + "\n", "") if job else (1, "", "slurm_load_jobs error: Invalid job id specified\n")
        now = time.time()
        for job in [name for name, job in self.jobs.items() if now - job.get("ended", now) > LISTED]:
            del self.jobs[job]
        lines = []
        for name, job in self.jobs.items():
            host = "here" if job["state"] == "RUNNING" else ""
            lines.append(f"{name}|{job['state']}|{host}|None|{job['name']}\n")
        out = "".join(lines)
        self.bytes = max(self.bytes, len(out))
        return 0, out, ""

    def scancel(self, arguments, script, environment):
        job = self.jobs.get(arguments[-1])
        if job and job["state"] in ("PENDING", "RUNNING"):
            if process := self.running.get(arguments[-1]):
                process.terminate()
            else:
                job.update(state="CANCELLED", ended=time.time())
        return 0, "", ""

    def scontrol(self, arguments, script, environment):
        return 1, "", "not here\n"

    def sacct(self, arguments, script, environment):
        return 1, "", "no accounting\n"

    def work(self):
        while True:
            with self.lock:
                self.step()
            time.sleep(0.02)

    def step(self):
        for name, process in list(self.running.items()):
            if (code := process.poll()) is not None:
                del self.running[name]
                self.jobs[name].update(state="FAILED" if code else "COMPLETED", ended=time.time())
        if not self.submitted or time.time() - self.submitted < self.hold:
            return
        while self.waiting and len(self.running) < self.slots:
            name = self.waiting.popleft()
            job = self.jobs[name]
            if job["state"] != "PENDING":
                continue
            environment = {**job["environment"], "SLURM_JOB_ID": name.split("_")[0], "SLURM_CPUS_ON_NODE": "1"}
            if job["task"] is not None:
                environment.update(SLURM_ARRAY_JOB_ID=str(job["array"]), SLURM_ARRAY_TASK_ID=str(job["task"]))
            job["state"] = "RUNNING"
            nothing = subprocess.DEVNULL
            self.running[name] = subprocess.Popen(
                ["sh", job["script"]], env=environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
            )


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        answer = self.server.queue.ask(*json.loads(self.rfile.readline()))
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def pipeline(chains, length, wide, first):
    """`length` stages of `chains` members each; the first `wide` members of the first one take `first` seconds."""
    members = ", ".join(str(n) for n in range(chains))
    lines = ["name: many", "stages:"]
    for i in range(length):
        copy = "cat {inputs.from}/out.txt > out.txt" if i else f"[ ${{matrix.n}} -ge {wide} ] || sleep {first}"
        lines += [
            f"  s{i}:",
            "    command:",
            f'      run: [sh, -c, "{copy}; echo s{i} ${{matrix.n}} >> out.txt"]',
            "      outputs: { out: { path: out.txt } }",
        ]
        lines += [f"      inputs: {{ from: s{i - 1} }}"] if i else []
        lines.append(f"    matrix: {{ n: [{members}] }}")
    return "\n".join(lines) + "\n"


def look(pid):
    """Processor seconds of the process, of commands that it called, MB now and at most."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    own, children = (int(fields[11]) + int(fields[12])) / ticks, (int(fields[13]) + int(fields[14])) / ticks
    status = Path(f"/proc/{pid}/status").read_text()
    size = lambda name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) * 1024 / 1e6
    return {"own": own, "children": children, "rss": size("VmRSS"), "hwm": size("VmHWM")}


def file_calls(pid, seconds, cache):
    """Calls of the file system by name and by the part of the cache that they concern."""
    if seconds <= 0 or shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile(prefix="strace-") as log:
        subprocess.run(
            ["timeout", "--signal=INT", str(seconds), "strace", "-f", "-qq", "-e", "trace=file,flock,fsync,fdatasync",
             "-o", log.name, "-p", str(pid)],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        calls, parts = collections.Counter(), collections.Counter()
        for line in Path(log.name).read_text(errors="replace").splitlines():
            match = re.match(r"\d+\s+(\w+)\(", line)
            if not match:
                continue
            calls[match[1]] += 1
            if path := re.search(rf'"{re.escape(str(cache))}/?([^"/]*)', line):
                parts[f"{match[1]} cache/{path[1]}"] += 1
        return {"seconds": seconds, "calls": dict(calls.most_common()), "cache": dict(parts.most_common(20))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynvis", default="target/release/dynvis")
    parser.add_argument("--chains", type=int, default=1000)
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--hold", type=float, default=200)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--strace", type=int, default=60)
    parser.add_argument("--profile", default="", help="lines of the profile")
    parser.add_argument("--most", type=float, default=3600, help="seconds after which it is ended")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slurm-many-") as name:
        told = measure(arguments, Path(name))
    print(json.dumps(told, indent=1))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(told, indent=1))


def measure(a, folder):
    project, commands, scripts = folder / "project", folder / "commands", folder / "scripts"
    for made in (project, commands, scripts):
        made.mkdir()
    wide = min(a.jobs, a.slots, a.chains)
    (project / "p.yaml").write_text(pipeline(a.chains, a.length, wide, a.first))
    (project / "stages").mkdir()
    (project / "slurm.yaml").write_text(a.profile + "\n")
    socket = folder / "socket"
    for command in COMMANDS:
        file = commands / command
        # Not a shim of a version manager.
        file.write_text(CLIENT.format(python=os.path.realpath(sys.executable), socket=str(socket)))
        file.chmod(0o755)
    server = Server(str(socket), Handler)
    server.queue = queue = Queue(scripts, a.slots, a.hold)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=queue.work, daemon=True).start()
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    note = lambda text: print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
    started = time.time()
    with open(project / "output", "wb") as output:
        process = subprocess.Popen(
            [str(Path(a.dynvis).resolve()), "run", "p.yaml", "--executor", "slurm", "--jobs", str(a.jobs), "--progress", "plain"],
            cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
        told = {"stages": a.chains * a.length, "jobs": a.jobs, "slots": a.slots}
        whole = {}
        while not queue.submitted and process.poll() is None:
            time.sleep(0.1)
        told["seconds to the first submission"] = round(time.time() - started, 1)
        for phase, begins, ends in [
            ("waits", 10, a.hold - 5),
            ("runs", a.hold + 15, a.hold + a.first - 5),
        ]:
            wait_until(queue.submitted + begins, process)
            calls = counts(queue)
            first, at = safely(process, whole), time.time()
            # Counted to a moment before the trace begins.
            wait_until(queue.submitted + ends - a.strace - 1, process)
            last, until = safely(process, whole), time.time()
            if process.poll() is not None or not first or not last:
                break
            now = counts(queue)
            told[phase] = {
                "seconds": round(until - at, 1),
                "own CPU %": round(100 * (last["own"] - first["own"]) / (until - at), 3),
                "its commands' CPU %": round(100 * (last["children"] - first["children"]) / (until - at), 3),
                "MB": round(last["rss"], 1),
                "commands": {name: now[name] - calls[name] for name in now},
                "waiting": len(queue.waiting),
                "running": len(queue.running),
                "files": file_calls(process.pid, a.strace, project / "cache"),
            }
            note(f"{phase}: {json.dumps(told[phase])}")
        begun, first = time.time(), dict(whole)
        while process.poll() is None and time.time() - started < a.most:
            safely(process, whole)
            time.sleep(1)
            if int(time.time()) % 30 == 0:
                note(f"{sum(j['state'] == 'COMPLETED' for j in list(queue.jobs.values()))} listed as completed, {dict(queue.calls)}")
        ended = time.time()
        if process.poll() is None:
            process.kill()
            process.wait()
            told["ended before its end"] = True
    done = (project / "output").read_text(errors="replace").count(" done in ")
    told.update({
        "code": process.returncode,
        "stages done": done,
        "works": {
            "seconds": round(ended - begun, 1),
            "own CPU %": round(100 * (whole["own"] - first["own"]) / max(ended - begun, 1), 2),
            "its commands' CPU %": round(100 * (whole["children"] - first["children"]) / max(ended - begun, 1), 2),
        },
        "seconds": round(ended - started, 1),
        "own CPU s": whole.get("own"),
        "VmHWM MB": round(whole.get("hwm", 0), 1),
        "commands": dict(queue.calls),
        "jobs in the queue at most": queue.most,
        "longest answer of squeue, bytes": queue.bytes,
    })  # fmt: skip
    if process.returncode not in (0, -9):
        note((project / "output").read_text(errors="replace")[-2000:])
    for running in list(queue.running.values()):
        running.kill()
    server.shutdown()
    return told


def counts(queue):
    return {name: queue.calls[name] for name in COMMANDS}


def wait_until(at, process):
    while time.time() < at and process.poll() is None:
        time.sleep(0.2)


def safely(process, whole):
    """What is known of the process; none where it has ended."""
    try:
        seen = look(process.pid)
    except (OSError, TypeError, IndexError):
        return None
    whole.update(seen)
    return seen


if __name__ == "__main__":
    main()
