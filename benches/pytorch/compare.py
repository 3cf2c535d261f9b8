"""dynvis against PyTorch on the CPU: recurrent and other convolutions, pooling, whole training steps, memory.

    python benches/pytorch/compare.py --markdown bench.md --json bench.json

Both sides are servers (crates/cords/examples/bench_server/, torch_side.py) that get the same tensors. Their results
are held against each other, then they are timed in turn, round by round, so that both see the same machine. A figure
is the median over rounds of the time of one step: CPU time of all threads and wall time. Ratios use CPU time on
one thread and wall time on more (threads of PyTorch that wait for each other burn CPU time). Rounds during which
other programs took a tenth of a CPU do not count; where they are more than half, the row says "busy". On more than one
thread it then tells nothing, since PyTorch's threads wait for each other several times a step, and no mean includes it.

(a) is the published way, (b) the fastest of several ways to write it in PyTorch, found anew for each row. Variants
"by hand" do without autograd through time; rows with a gradient also state the fastest variant that uses it.
"""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from shapes import CHANNELS, conv_shapes, parameter_names, sides

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOLERANCE = 1e-4
R8_SIZES = [(64, 56), (128, 28), (256, 14), (512, 7)]
SMALL_SIZES = [(64, 14), (32, 8), (16, 8)]
ENGINE = "dynvis"
# The engine with activity kept as bfloat16.
ROUNDED = "dynvis, bfloat16 history"
# A variant whose better time of the first two rounds is this many times the fastest one's is not timed again.
HOPELESS = 1.3


class Server:
    """One side: a process that answers requests."""

    def __init__(self, command, threads):
        env = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=HERE
        )

    def ask(self, do, **request):
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended during `{do}` (see above)")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def engine_command(build):
    if build:
        cargo = ["cargo", "build", "--release", "--quiet", "-p", "cords", "--example", "bench_server"]
        subprocess.run(cargo, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return [str(target / "release" / "examples" / "bench_server")]


def torch_command():
    return [sys.executable, str(HERE / "torch_side.py")]


# Cells: what is timed, and its tensors.

def recurrent_cell(channels, side, batch, steps, backward, group):
    return {
        "group": group, "name": f"{channels} x {side} x {side}", "batch": batch,
        "pass": "forward + backward" if backward else "forward", "per": steps,
        "case": {"kind": "recurrent", "channels": channels, "side": side, "batch": batch, "steps": steps,
                 "alpha": 0.2, "backward": backward},
    }


def convolution_cell(inputs, outputs, kernel, stride, side, batch, steps, backward):
    return {
        "group": "other convolutions", "name": f"{kernel}x{kernel}/{stride} {inputs} -> {outputs}, {side} x {side}",
        "batch": batch, "pass": "forward + backward" if backward else "forward", "per": steps,
        "case": {"kind": "convolution", "inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": stride,
                 "padding": kernel // 2, "side": side, "batch": batch, "steps": steps, "backward": backward,
                 "input_gradient": inputs > 3},
    }


def pool_cell(channels, side, batch, steps, backward):
    return {
        "group": "pooling", "name": f"3x3/2 {channels}, {side} x {side}", "batch": batch,
        "pass": "forward + backward" if backward else "forward", "per": steps,
        "case": {"kind": "pool", "channels": channels, "side": side, "batch": batch, "steps": steps,
                 "backward": backward},
    }


def training_cell(areas, image_side, batch, steps, classes=1000):
    return {
        "group": "training step", "name": f"R{areas}, {image_side} x {image_side}, {steps} + {steps} steps",
        "batch": batch, "pass": "training step", "per": 1,
        "case": {"kind": "training", "areas": areas, "image_side": image_side, "classes": classes,
                 "labels": [(7 * i + 3) % classes for i in range(batch)], "alpha": 0.2,
                 "spontaneous_steps": steps, "stimulus_steps": steps, "after_steps": steps,
                 "window": max(1, 3 * steps // 10), "return_window": max(1, steps // 10)},
    }


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def away_from_kinks(rng, *shape):
    """Values of magnitude 1 to 1.25 and random sign. With convolutions of row length 0.1 no current comes near 0, where
    rounding alone decides on which side of ReLU's kink a unit is and gradients of equal programs differ."""
    return rng.choice(np.float32([-1, 1]), shape) * rng.uniform(1, 1.25, shape).astype(np.float32)


def inputs(case):
    rng = np.random.default_rng(0)
    if case["kind"] == "recurrent":
        c, maps = case["channels"], (case["batch"], case["channels"], case["side"], case["side"])
        return {
            "weight": normal(rng, c, c, 3, 3) * np.float32(0.1 / math.sqrt(9 * c)),
            "drive": away_from_kinks(rng, *maps),
            "start": rng.uniform(0, 1, maps).astype(np.float32),
            "gradient": normal(rng, *maps),
        }
    if case["kind"] in ("convolution", "pool"):
        stride = case.get("stride", 2)
        n, out = case["side"], (case["side"] - 1) // stride + 1
        outputs, channels = (case.get(k, case.get("channels")) for k in ("outputs", "inputs"))
        tensors = {"x": normal(rng, case["batch"], channels, n, n), "dy": normal(rng, case["batch"], outputs, out, out)}
        if case["kind"] == "convolution":
            kernel = case["kernel"]
            row = np.float32(kernel * math.sqrt(channels))
            tensors["weight"] = normal(rng, outputs, channels, kernel, kernel) / row
        return tensors
    areas, side = case["areas"], case["image_side"]
    tensors = {"images": normal(rng, len(case["labels"]), 3, side, side)}
    for module, shape in conv_shapes(areas, 3, case["classes"]).items():
        g, v = parameter_names(module)
        length = 1.0 if module in ("inp_conv", "out_fc") else 0.1
        tensors[g] = np.full([shape[0]] + [1] * (len(shape) - 1), length, np.float32)
        tensors[v] = normal(rng, *shape) / np.float32(math.sqrt(math.prod(shape[1:])))
    for area, area_side in enumerate(sides(areas, side)):
        tensors[f"conv_bias.{area}"] = away_from_kinks(rng, CHANNELS[area + 1], area_side, area_side)
    tensors["out_fc.bias"] = normal(rng, case["classes"])
    return tensors


def difference(found, expected):
    """Largest difference, each tensor's in units of its largest value."""
    if found.keys() != expected.keys():
        raise SystemExit(f"the sides give different tensors: {sorted(found.keys() ^ expected.keys())}")
    worst = 0.0
    for name, value in expected.items():
        scale = max(float(np.abs(value).max()), 1e-30)
        worst = max(worst, float(np.abs(found[name].reshape(value.shape) - value).max()) / scale)
    return worst


# Measuring.

def compare(cell, servers, folder, options):
    """Checks and times one cell; the record that tables are made of."""
    engine, torch = servers
    path, out = folder / "inputs.safetensors", folder / "outputs.safetensors"
    save_file(inputs(cell["case"]), path)
    engine.ask("prepare", case=cell["case"], inputs=str(path))
    variants = torch.ask("prepare", case=cell["case"], inputs=str(path))["variants"]
    variants = [name for name in variants if not (options.quick and "inductor" in name)]
    if "published" in variants and not published_fits(cell["case"]):
        variants.remove("published")
    engine.ask("run", outputs=str(out))
    expected = load_file(out)
    worst = 0.0
    for name in variants:
        torch.ask("run", variant=name, outputs=str(out))
        found = difference(load_file(out), expected)
        if not found < TOLERANCE:
            raise SystemExit(f"{cell['name']}, {cell['pass']}: `{name}` differs by {found:.1e}")
        worst = max(worst, found)
    # A training step is long enough by itself, and for fewer rounds.
    long = cell["group"] == "training step"
    seconds, rounds = (0.0, (options.rounds + 1) // 2) if long else (options.seconds, options.rounds)
    samples = {name: [] for name in [ENGINE, *variants]}
    alive = list(samples)
    for turn in range(rounds):
        for name in alive if turn % 2 == 0 else reversed(alive):
            # Threads that still spin for more work come to rest first.
            time.sleep(0.05)
            busy = busy_seconds()
            answer = engine.ask("time", seconds=seconds) if name == ENGINE else \
                torch.ask("time", variant=name, seconds=seconds)
            foreign = (busy_seconds() - busy - answer["cpu_s"]) / answer["wall_s"]
            each = 1e3 / (answer["passes"] * cell["per"])
            samples[name].append(
                {"cpu_ms": answer["cpu_s"] * each, "wall_ms": answer["wall_s"] * each, "foreign": foreign}
            )
        if turn == 1:
            clock = headline_clock(options.threads_now)
            first = {name: min(s[clock] for s in samples[name]) for name in variants}
            fastest = min(first[name] for name in variants if name != "published")
            keep = {ENGINE, "published"} | {n for n in variants if first[n] < HOPELESS * fastest}
            # The fastest that uses autograd stays, whatever else is faster.
            with_autograd = [n for n in variants if n != "published" and "by hand" not in n]
            keep.add(min(with_autograd, key=first.__getitem__))
            for name in [n for n in variants if n not in keep]:
                torch.ask("drop", variant=name)
            alive = [name for name in alive if name in keep]
    medians = {name: median(taken) for name, taken in samples.items()}
    record = {k: cell[k] for k in ("group", "name", "batch", "pass")}
    busy = any(len(calm(samples[name])) < len(samples[name]) / 2 for name in alive)
    return record | {"threads": options.threads_now, "difference": worst, "median": medians, "busy": busy,
                     "samples": samples}


def busy_seconds():
    """CPU time that the whole machine has spent, steal included."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, *rest = map(int, stat.readline().split()[1:])
    return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")


def calm(samples):
    """Samples during which other programs took less than a tenth of a CPU."""
    return [s for s in samples if s["foreign"] < 0.1]


def median(samples):
    """Over the calm samples, if they are half of all, else over all."""
    chosen = calm(samples)
    if 2 * len(chosen) < len(samples):
        chosen = samples
    return {clock: statistics.median(s[clock] for s in chosen) for clock in ("cpu_ms", "wall_ms")}


def headline_clock(threads):
    return "cpu_ms" if threads == 1 else "wall_ms"


def summarise(record):
    """Adds the fastest variants and the ratios to a record."""
    clock, medians = headline_clock(record["threads"]), record["median"]
    rounds = max(len(taken) for taken in record["samples"].values())
    timed = [n for n in medians if n not in (ENGINE, "published") and len(record["samples"][n]) == rounds]
    record["best"] = min(timed, key=lambda n: medians[n][clock])
    record["best_autograd"] = min((n for n in timed if "by hand" not in n), key=lambda n: medians[n][clock])
    # Rows without a variant by hand have nothing to tell apart.
    if not any("by hand" in n for n in medians):
        del record["best_autograd"]
    for key, name in [("ratio", record["best"]), ("ratio_autograd", record.get("best_autograd")),
                      ("ratio_published", "published")]:
        if name in medians:
            record[key] = medians[name][clock] / medians[ENGINE][clock]
            record[key + "_cpu"] = medians[name]["cpu_ms"] / medians[ENGINE]["cpu_ms"]
            record[key + "_wall"] = medians[name]["wall_ms"] / medians[ENGINE]["wall_ms"]
    return record


def measure_memory(areas, image_side, batch, steps, commands, folder, options):
    """Memory that one training step takes beyond what it was given, on each side; every figure from a new process."""
    records = []
    names = [ENGINE, ROUNDED, "published", "channels_last", "inductor", "by hand"]
    for name in [n for n in names if not (options.quick and "inductor" in n)]:
        growth = {}
        for length in (steps // 2, steps):
            case = training_cell(areas, image_side, batch, length)["case"]
            own = name in (ENGINE, ROUNDED)
            if name == ROUNDED:
                case["history"] = "bfloat16"
            path = folder / "inputs.safetensors"
            save_file(inputs(case), path)
            if name == "published" and not published_fits(case):
                continue
            with Server(commands[0] if own else commands[1], 1) as server:
                server.ask("prepare", case=case, inputs=str(path))
                if own:
                    memory = server.ask("memory")["memory"]
                else:
                    # A first pass compiles and warms up; the server then returns free memory to the system.
                    server.ask("run", variant=name, outputs=str(folder / "outputs.safetensors"))
                    memory = server.ask("memory", variant=name)["memory"]
            growth[length] = memory[1] - memory[0]
        if len(growth) < 2:
            continue
        unit = batch * 2 * steps * 1e6
        records.append({
            "name": f"R{areas}, {image_side} x {image_side}, {steps} + {steps} steps", "batch": batch, "side": name,
            "growth_mb": growth[steps] / 1e6, "per_image_step_mb": growth[steps] / unit,
            "marginal_mb": 2 * (growth[steps] - growth[steps // 2]) / unit,
        })
        print(f"memory: {records[-1]}", file=sys.stderr)
    return records


def measure_checkpoints(areas, image_side, batch, steps, command, folder):
    """Memory and time of the engine's training step with activity kept every k steps; every figure from a new process."""
    records = []
    trial = 2 * steps
    for interval in sorted({trial, trial // 2, trial // 4, trial // 8, round(math.sqrt(trial)), 5}, reverse=True):
        case = training_cell(areas, image_side, batch, steps)["case"] | {"interval": interval}
        path = folder / "inputs.safetensors"
        save_file(inputs(case), path)
        with Server(command, os.cpu_count()) as server:
            server.ask("prepare", case=case, inputs=str(path))
            memory = server.ask("memory")["memory"]
            wall = min(server.ask("time", seconds=0)["wall_s"] for _ in range(2))
        records.append({
            "name": f"R{areas}, {image_side} x {image_side}, {steps} + {steps} steps", "batch": batch,
            "interval": interval, "growth_mb": (memory[1] - memory[0]) / 1e6, "wall_s": wall,
        })
        print(f"checkpoints: {records[-1]}", file=sys.stderr)
    return records


def published_fits(case):
    """Whether the published way's activity (about 100 bytes a unit and step) fits into this machine's free memory."""
    units = sum(CHANNELS[a + 1] * s * s for a, s in enumerate(sides(case["areas"], case["image_side"])))
    steps = case["stimulus_steps"] + case["after_steps"]
    free = next(int(l.split()[1]) * 1024 for l in open("/proc/meminfo") if l.startswith("MemAvailable"))
    return 130 * units * steps * len(case["labels"]) < free


# Tables.

def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values)))


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def milliseconds(value):
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def timing_table(records, threads):
    clock = headline_clock(threads)
    backward = any("ratio_autograd" in r for r in records)
    published = any("ratio_published" in r for r in records)
    other = "wall" if threads == 1 else "CPU"
    header = ["", "batch", "pass", "dynvis [ms]", "(b) [ms]", "(b) is", "ratio", f"ratio {other}"]
    header += ["with autograd [ms]", "is", "ratio"] if backward else []
    header += ["(a) [ms]", "ratio"] if published else []
    rows = []
    for r in records:
        m = r["median"]
        row = [r["name"] + (" (busy)" if r["busy"] else ""), str(r["batch"]), r["pass"],
               milliseconds(m[ENGINE][clock]), milliseconds(m[r["best"]][clock]), r["best"],
               f"({r['ratio']:.2f})" if doubtful(r) else f"**{r['ratio']:.2f}**",
               f"{r['ratio_' + other.lower()]:.2f}"]
        if backward:
            shown = "ratio_autograd" in r
            row += [milliseconds(m[r["best_autograd"]][clock]), r["best_autograd"], f"{r['ratio_autograd']:.2f}"] \
                if shown else ["", "", ""]
        if published:
            shown = "ratio_published" in r
            row += [milliseconds(m["published"][clock]), f"{r['ratio_published']:.2f}"] if shown else ["", ""]
        rows.append(row)
    return table(header, rows)


def doubtful(record):
    """Whether other programs spoilt a comparison of wall times."""
    return record["busy"] and record["threads"] > 1


def mean_lines(records):
    """Geometric means over the sizes of a group, by pass and batch: a table, or none where there is one row of each."""
    rows = []
    for kind in dict.fromkeys(r["pass"] for r in records):
        chosen = [r for r in records if r["pass"] == kind]
        for batch in [*dict.fromkeys(r["batch"] for r in chosen), None]:
            of = [r for r in chosen if batch in (None, r["batch"]) and not doubtful(r)]
            if len(of) < 2:
                continue
            mean = geometric_mean([r["ratio"] for r in of])
            row = [kind, "all" if batch is None else str(batch), str(len(of)), f"**{mean:.2f}**"]
            autograd = [r["ratio_autograd"] for r in of if "ratio_autograd" in r]
            rows.append([*row, f"{geometric_mean(autograd):.2f}" if autograd else ""])
    return [table(["geometric mean", "batch", "rows", "to (b)", "to the fastest with autograd"], rows)] if rows else []


def report(result):
    parts = [f"# dynvis and PyTorch {result['torch']} on {result['machine']}", __doc__.split("\n\n", 2)[2].strip()]
    for threads in dict.fromkeys(r["threads"] for r in result["timings"]):
        for group in dict.fromkeys(r["group"] for r in result["timings"]):
            records = [r for r in result["timings"] if (r["threads"], r["group"]) == (threads, group)]
            if not records:
                continue
            clock = "CPU time" if threads == 1 else "wall time"
            unit = "a training step" if group == "training step" else "a step or pass"
            parts += [f"## {group}, {threads} thread{'s' if threads > 1 else ''}: {clock} of {unit}",
                      timing_table(records, threads)]
            if group != "training step":
                parts += mean_lines(records)
    if result["memory"]:
        rows = [[m["name"], str(m["batch"]), m["side"], f"{m['growth_mb']:.0f}", f"{m['per_image_step_mb']:.2f}",
                 f"{m['marginal_mb']:.2f}"] for m in result["memory"]]
        parts += ["## Peak memory of a training step, beyond weights and images that were there before",
                  "\"Marginal\" is from two lengths of the trial: what one more step of one image costs, without what "
                  "does not grow with them (weights' gradients, scratch).",
                  table(["", "batch", "side", "peak [MB]", "peak / (images x steps) [MB]", "marginal [MB]"], rows)]
    if result["checkpoints"]:
        rows = [[c["name"], str(c["batch"]), str(c["interval"]), f"{c['growth_mb']:.0f}", f"{c['wall_s']:.2f}"]
                for c in result["checkpoints"]]
        parts += [f"## dynvis: memory against time, {os.cpu_count()} threads",
                  "Activity is kept every k steps and computed again in between, to the same bits; k = the trial's length "
                  "keeps everything. Time: the better of two.",
                  table(["", "batch", "k [steps]", "peak [MB]", "time [s]"], rows)]
    return "\n\n".join(parts) + "\n"


def cells(options):
    steps = 10 if options.quick else 40
    trial = 4 if options.quick else 20
    batches = [1] if options.quick else [1, 8]
    both = [False, True]
    out = [recurrent_cell(c, side, batch, steps, backward, "recurrent convolution, R8 sizes")
           for backward in both for batch in batches for c, side in (R8_SIZES[-1:] if options.quick else R8_SIZES)]
    out += [recurrent_cell(c, side, batch, steps, backward, "recurrent convolution, small sizes")
            for backward in both for batch in batches for c, side in SMALL_SIZES]
    others = [(3, 64, 7, 2, 224)] + [(c, 2 * c, kernel, 2, side) for kernel in (3, 1) for c, side in R8_SIZES[:3]]
    out += [convolution_cell(*other, batch, 10, backward)
            for backward in both for batch in batches for other in (others[-1:] if options.quick else others)]
    out += [pool_cell(64, 112, batch, 10, backward) for backward in both for batch in batches]
    nets = [(2, 64, 1)] if options.quick else [(areas, 224, batch) for areas in (2, 8) for batch in (1, 4)]
    out += [training_cell(areas, side, batch, trial) for areas, side, batch in nets]
    return [c for c in out if options.only in f"{c['group']} {c['name']} {c['pass']} batch {c['batch']}"]


def machine():
    with open("/proc/cpuinfo") as info:
        names = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, help="samples of each variant (default 9; half as many training steps)")
    parser.add_argument("--seconds", type=float, help="least length of a kernel's sample (default 0.3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cells whose group, name, pass or batch holds it")
    parser.add_argument("--no-memory", action="store_true", help="leave memory out")
    parser.add_argument("--no-build", action="store_true", help="the engine's server is built already")
    parser.add_argument("--quick", action="store_true", help="a few small cells, no inductor: does everything work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 9)
    options.seconds = options.seconds or (0.05 if options.quick else 0.3)
    return options


def main():
    options = arguments()
    commands = engine_command(not options.no_build), torch_command()
    result = {"machine": machine(), "timings": [], "memory": [], "checkpoints": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for threads in options.threads:
            options.threads_now = threads
            with Server(commands[0], threads) as engine, Server(commands[1], threads) as torch:
                result["torch"] = torch.ask("versions")["torch"]
                for cell in cells(options):
                    record = summarise(compare(cell, (engine, torch), folder, options))
                    result["timings"].append(record)
                    print(f"{threads} threads, {record['group']}, {record['name']}, batch {record['batch']}, "
                          f"{record['pass']}: {record['ratio']:.2f} to {record['best']}", file=sys.stderr)
        if not options.no_memory and options.only in "memory":
            sizes = [(2, 64, 1, 4)] if options.quick else [(areas, 224, n, 20) for areas in (2, 8) for n in (1, 4)]
            for size in sizes:
                result["memory"] += measure_memory(*size, commands, folder, options)
        if not options.no_memory and options.only in "checkpoints":
            size = (2, 64, 1, 4) if options.quick else (8, 224, 1, 50)
            result["checkpoints"] = measure_checkpoints(*size, commands[0], folder)
    text = report(result)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
