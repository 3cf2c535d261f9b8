"""What calls from Python cost beside the same calls in Rust: simulation and gradient with respect to images.

    cargo build --release -p cords --example bench_simulate
    python benches/python/compare.py target/release/examples/bench_simulate

Both sides take turns, so that whatever else the machine does meets both; the least time of each counts. Ends with 1 where
Python takes more than 5 % longer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dynvis
import numpy as np

PASSES = 1.05

parser = argparse.ArgumentParser()
parser.add_argument("engine", help="the program bench_simulate")
parser.add_argument("--areas", type=int, default=2)
parser.add_argument("--side", type=int, default=224)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--rounds", type=int, default=5)
arguments = parser.parse_args()
areas, side, batch, steps = arguments.areas, arguments.side, arguments.batch, arguments.steps

count = batch * 3 * side * side
images = np.sin(np.arange(count, dtype=np.float32) * np.float32(0.37)).reshape(batch, 3, side, side)
least: dict[str, dict[str, float]] = {"Rust": {}, "Python": {}}


def keep(who: str, what: str, seconds: float) -> None:
    least[who][what] = min(seconds, least[who].get(what, float("inf")))


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "model.safetensors"
    for _ in range(arguments.rounds):
        command = [arguments.engine, file, *map(str, (areas, side, batch, steps, 1))]
        for what, seconds in json.loads(subprocess.run(command, capture_output=True, check=True).stdout).items():
            keep("Rust", what, seconds)
        net = dynvis.Network.load(file)
        time_ms = steps * net.dt_ms
        how = {"normalised": True, "spontaneous_ms": time_ms}
        start = time.perf_counter()
        net.simulate(images, time_ms, stimulus_ms=time_ms, **how)
        keep("Python", "simulate", time.perf_counter() - start)
        last = {areas - 1: np.ones(net.area_shapes[net.area_names[-1]], np.float32)}
        start = time.perf_counter()
        net.image_gradient(images, last, time_ms, **how)
        keep("Python", "gradient", time.perf_counter() - start)

print(f"R{areas} at {side}: {batch} images, {steps} steps, least of {arguments.rounds}")
worst = 0.0
for what, rust in least["Rust"].items():
    python = least["Python"][what]
    worst = max(worst, python / rust)
    print(f"{what:10} Rust {rust:8.3f} s   Python {python:8.3f} s   ratio {python / rust:.3f}")
sys.exit(worst > PASSES)
