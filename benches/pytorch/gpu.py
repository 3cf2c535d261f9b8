#!/usr/bin/env python3
"""One training step of R2 and R8 on a GPU: dynvis beside the published way and fast PyTorch, on the same device in one run.

    python benches/pytorch/gpu.py --dynvis target/release/dynvis [--markdown FILE] [--batches 16 64] [--only TEXT]...

Every way is timed at batches that grow until memory does not suffice or a step takes too long, or at those of
`--batches`; its best rate counts. Two steps of each batch are left out: compilation, the choice of algorithms, and what
dynvis records as a CUDA graph. The median of the others counts. The table is written after every batch. The floor is
what the convolutions' operations take at the matrix rate that this device reaches, and what the activity's bytes take
at its copy rate, both measured here. All steps include the optimiser, none includes the loading of images.
"""
import argparse
import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from networks import Autograd, Published
from shapes import CHANNELS, STRIDES, conv_shapes, parameter_names, sides

CLASSES = 1000


def trial(areas, steps):
    return {"areas": areas, "alpha": 0.2, "spontaneous_steps": steps, "stimulus_steps": steps, "after_steps": steps,
            "window": max(1, min(30, steps)), "return_window": max(1, min(10, steps))}


def parameters(areas, side):
    """Random weights of row length 1, recurrent ones of 0.5; small biases."""
    torch.manual_seed(0)
    out = {}
    for module, shape in conv_shapes(areas, 3, CLASSES).items():
        v = torch.randn(shape)
        length = 0.5 if module.startswith("area_conv") else 1.0
        names = parameter_names(module)
        out[names[0]] = torch.full((shape[0],) + (1,) * (len(shape) - 1), length)
        out[names[1]] = v
    for area, maps in enumerate(sides(areas, side)):
        out[f"conv_bias.{area}"] = 0.1 * torch.randn(CHANNELS[area + 1], maps, maps)
    out["out_fc.bias"] = torch.zeros(CLASSES)
    return out


def advance_mixed(rs, constant, w, alpha):
    """One step with float32 state, whatever convolutions compute in."""
    out = []
    for l, r in enumerate(rs):
        u = F.conv2d(r, w[f"area_conv.{l}"], padding=1) + constant[l]
        if l > 0:
            if l == 1:
                x = rs[0]
            elif l % 2 == 0:
                x = rs[l - 1] + rs[l - 2]
            else:
                x = rs[l - 1] + F.conv2d(rs[l - 2], w[f"skip_area.{(l - 3) // 2}"], stride=2)
            u = u + F.conv2d(x, w[f"area_area.{l}"], stride=STRIDES[l], padding=1)
        out.append(r + alpha * (F.relu(u).float() - r))
    return out


class Way:
    """A way to make a training step in PyTorch."""

    def __init__(self, name, make, tf32=False, autocast=None, tuned=True):
        self.name, self.make, self.tf32, self.autocast, self.tuned = name, make, tf32, autocast, tuned

    def prepare(self, areas, side, steps):
        # Otherwise the compiler gives up, in silence, after eight batches of different sizes.
        torch._dynamo.reset()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        # cuDNN times its algorithms and keeps the fastest.
        torch.backends.cudnn.benchmark = self.tuned
        network = self.make(parameters(areas, side), trial(areas, steps), side)
        trained = network.parameters() if isinstance(network, torch.nn.Module) else network.parameters.values()
        trained = list(trained)
        names = [n for n, _ in network.named_parameters()] if isinstance(network, torch.nn.Module) else list(network.parameters)
        optimiser = torch.optim.AdamW(trained, lr=1e-5)

        def step(image, labels):
            with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
                result = network.run(image, labels)
            for name, parameter in zip(names, trained):
                parameter.grad = result[name]
            torch.nn.utils.clip_grad_norm_(trained, 1e-4)
            optimiser.step()

        return step


def compiled(step):
    # `reduce-overhead` would record CUDA graphs, whose outputs the backward pass still needs: the plain mode fuses as well.
    return torch.compile(step, dynamic=False)


def ways(quick):
    out = [
        Way("published, float32", Published, tuned=False),
        # What PyTorch's defaults give.
        Way("published, TF32", Published, tf32=True, tuned=False),
        Way("hoisted, channels_last, TF32", lambda *a: Autograd(*a, advance_mixed), tf32=True),
        Way("hoisted, channels_last, bf16 autocast", lambda *a: Autograd(*a, advance_mixed), True, torch.bfloat16),
    ]
    if not quick:
        out += [
            Way("the same, compiled, TF32", lambda *a: Autograd(*a, compiled(advance_mixed)), tf32=True),
            Way("the same, compiled, bf16 autocast", lambda *a: Autograd(*a, compiled(advance_mixed)), True, torch.bfloat16),
        ]
    return out


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


LEFT_OUT = 2


def time_pytorch(way, areas, side, steps, batch, repeats):
    """Seconds of each step and peak bytes."""
    step = way.prepare(areas, side, steps)
    image, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % CLASSES
    for _ in range(LEFT_OUT):
        step(image, labels)
    synchronise()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step(image, labels)
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds, torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def time_dynvis(options, precision, history, areas, batch):
    command = [options.dynvis, "benchmark", "--json", "--device", options.device, "--areas", str(areas), "--side",
               str(options.side), "--steps", str(options.steps), "--batch", str(batch), "--repeats", str(options.repeats),
               "--precision", precision, "--history", history]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(next((line for line in lines if line.startswith("error:")), lines[-1]))
    result = json.loads(done.stdout)
    if result["recorded"] is False:
        print(f"  not recorded: {result['not_recorded_because']}", file=sys.stderr, flush=True)
    return result["seconds"], result["peak_bytes"]


def batches(options):
    """Those that were asked for, or ever larger ones."""
    if options.batches:
        yield from options.batches
        return
    batch = 1
    while batch <= options.largest_batch:
        yield batch
        batch *= options.growth


def best(measure, options, tell):
    """(images a second, batch, peak bytes) of the best batch, the largest batch that ran, and a note. `tell` hears of them
    after every batch."""
    found, largest, note = None, 0, ""
    for batch in batches(options):
        try:
            seconds, peak = measure(batch)
        except Exception as error:  # noqa: BLE001: whatever ends one way must not end the others
            note = f"batch {batch}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:90]}"
            break
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        second = sorted(seconds)[len(seconds) // 2]
        largest = batch
        if found is None or batch / second > found[0]:
            found = (batch / second, batch, peak)
        if second > options.longest:
            note = f"batch {batch} takes {second:.0f} s; larger ones were not tried"
            break
        tell(found, largest, f"after batch {batch}")
    return found, largest, note


def at_least_three(text):
    if int(text) < 3:
        raise argparse.ArgumentTypeError("a median takes at least 3")
    return int(text)


def rates(device):
    """Multiply-adds a second of matrix products in float32, TF32 and bfloat16, and bytes a second of a copy."""
    def rate(run, amount):
        run()
        synchronise()
        start = time.perf_counter()
        for _ in range(5):
            run()
        synchronise()
        return 5 * amount / (time.perf_counter() - start)

    n = 8192 if device == "cuda" else 512
    out = {}
    for name, dtype, tf32 in (("float32", torch.float32, False), ("TF32", torch.float32, True), ("bfloat16", torch.bfloat16, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
        out[name] = rate(lambda a=a, b=b: a @ b, n**3)
    x = torch.empty(2**28 if device == "cuda" else 2**22)
    y = torch.empty_like(x)
    out["copy"] = rate(lambda: y.copy_(x), 2 * 4 * x.numel())
    return out


def floor(areas, side, steps, measured):
    """Images a second at which nothing but convolutions' operations, or nothing but activity's bytes, would take the time."""
    maps = sides(areas, side)
    per_step = 0
    for module, shape in conv_shapes(areas, 3, CLASSES).items():
        kind, _, index = module.partition(".")
        weights = shape[0] * shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
        if kind in ("area_conv", "area_area") and not module == "area_area.0":
            per_step += weights * maps[int(index)] ** 2
        elif kind == "skip_area":
            per_step += weights * maps[2 * int(index) + 3] ** 2
    # Forward, gradient of inputs, gradient of weights; 2 x steps steps have a gradient.
    operations = 3 * per_step * 2 * steps
    state = sum(4 * c * m * m for c, m in zip(CHANNELS[1 : areas + 1], maps))
    # Forward: current and r are read, r is written. Backward: r, next and g are read, g and delta written, delta summed.
    copied = (3 + 7) * state * 2 * steps
    products = {name: rate / operations for name, rate in measured.items() if name != "copy"}
    return products, measured["copy"] / copied


def table(rows, header):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dynvis", default="target/release/dynvis", help="the program")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--areas", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=at_least_three, default=3, help="steps that are timed, at least 3")
    parser.add_argument("--batches", type=int, nargs="+", help="these, in place of growing ones")
    parser.add_argument("--only", action="append", metavar="TEXT", help="ways whose names hold this; repeatable")
    parser.add_argument("--largest-batch", type=int, default=256)
    parser.add_argument("--growth", type=int, default=4, help="factor from one batch to the next")
    parser.add_argument("--longest", type=float, default=6.0, help="seconds of a step after which batches grow no more")
    parser.add_argument("--quick", action="store_true", help="no compilation")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_default_device(options.device)
    name = torch.cuda.get_device_name() if options.device == "cuda" else "processor"
    measured = rates(options.device)
    head = [f"# Training steps on {name}, PyTorch {torch.__version__}", "",
            ", ".join(f"{what} {rate / 1e12:.2f} T multiply-adds/s" for what, rate in measured.items() if what != "copy")
            + f", copy {measured['copy'] / 1e9:.0f} GB/s (measured)"]
    done = []

    def write(section):
        """What there is so far: a run that is cut off leaves that."""
        if options.markdown:
            options.markdown.write_text("\n".join(head + done + section) + "\n")

    for areas in options.areas:
        rows, section = [], []

        def measure(what, run):
            if options.only and not any(text in what for text in options.only):
                return

            def tell(found, largest, note):
                row = [what] + (["-"] * 3 if found is None else [f"{found[0]:.3g}", found[1], f"{found[2] / 2**30:.2f}"])
                if rows and rows[-1][0][0] == what:
                    rows.pop()
                rows.append((row + [largest, note], found[0] if found else None))
                print(f"R{areas}, {what}: {rows[-1][0][1:]}", file=sys.stderr, flush=True)
                section[:] = describe(areas, rows, measured, options)
                write(section)

            tell(*best(run, options, tell))

        # The fastest first: where time runs out, the slowest are missing.
        for precision, history in (("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("tf32", "float32"), ("float32", "float32")):
            measure(f"dynvis, {precision}, history {history}",
                    lambda batch, p=precision, h=history: time_dynvis(options, p, h, areas, batch))
        for way in ways(options.quick)[::-1]:
            measure(f"PyTorch, {way.name}",
                    lambda batch, w=way: time_pytorch(w, areas, options.side, options.steps, batch, options.repeats))
        done += section
    print("\n".join(head + done))


def describe(areas, rows, measured, options):
    """The table of one network."""
    def rate_of(what):
        return next((rate for row, rate in rows if row[0] == f"PyTorch, {what}"), None)

    def ratio(rate, other):
        return f"{rate / other:.2f}" if rate and other else "-"

    fastest = max((rate for row, rate in rows if row[0].startswith("PyTorch") and rate), default=None)
    cells = [row[:5] + [ratio(rate, rate_of("published, float32")), ratio(rate, rate_of("published, TF32")),
                        ratio(rate, fastest), row[5]] for row, rate in rows]
    products, copied = floor(areas, options.side, options.steps, measured)
    floors = ", ".join(f"{what} products {rate:.3g}" for what, rate in products.items()) + f", copies {copied:.3g}"
    header = ["way", "images/s", "best batch", "peak [GiB]", "largest batch", "to published, float32",
              "to published, TF32", "to fastest PyTorch", "note"]
    return ["", f"## R{areas}, {options.side} x {options.side}, {options.steps} + {options.steps} steps with a gradient", "",
            table(cells, header), "", f"Images/s at which one of them alone would take all the time: {floors}."]


if __name__ == "__main__":
    main()
