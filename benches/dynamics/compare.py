"""Steady states and slowest modes of a network of published sizes: dynvis's engine, and scipy's ARPACK on the same operator.

    pip install numpy scipy torch safetensors
    cargo build --release --package cords --example bench_dynamics
    python benches/dynamics/compare.py --areas 8 --side 224 --area 4 --markdown out.md

Weights are random (the engine's own initialisation). ARPACK gets tau J = -I + D W of one area at the steady state of one image,
over the units whose derivative is not 0, its products by PyTorch in float64 with the same number of threads.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from safetensors.numpy import load_file
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

MODES = 10


def arpack(file, threads):
    torch.set_num_threads(threads)
    tensors = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
    weight = tensors["g"] * tensors["v"] / tensors["v"].flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    derivative = tensors["derivative"]
    active = derivative.flatten().nonzero().flatten()
    scale = derivative.flatten()[active]
    products = 0

    def product(x):
        nonlocal products
        products += 1
        full = torch.zeros(derivative.numel(), dtype=torch.float64)
        full[active] = torch.from_numpy(numpy.ascontiguousarray(x).reshape(-1))
        out = torch.nn.functional.conv2d(full.view(1, *derivative.shape), weight, padding=1).flatten()[active]
        return (scale * out).numpy()

    n = len(active)
    start = time.perf_counter()
    try:
        # The accuracy of the engine, residuals of 1e-6 of the largest eigenvalue, and the subspace that it begins with.
        values, vectors = eigs(LinearOperator((n, n), product, dtype=numpy.float64), k=MODES, which="LR", tol=1e-6, ncv=64)
        note = "converged"
    except ArpackNoConvergence as failed:
        values, vectors, note = failed.eigenvalues, failed.eigenvectors, "not converged"
    seconds, used = time.perf_counter() - start, products
    order = numpy.argsort(-values.real)
    residual = max(
        (numpy.linalg.norm(product(v.real) + 1j * product(v.imag) - value * v) for value, v in zip(values, vectors.T)),
        default=float("nan"),
    )
    return values[order] - 1.0, used, seconds, residual, note


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--program", default="target/release/examples/bench_dynamics", help="the engine's example")
    parser.add_argument("--areas", type=int, default=8)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--area", type=int, default=4, help="area that ARPACK gets too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [options.program, folder, str(options.areas), str(options.side), str(options.area)]
        environment = {"RAYON_NUM_THREADS": str(options.threads), "PATH": "/usr/bin:/bin"}
        output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        found = [json.loads(line) for line in output.splitlines()]
        lines = [f"# Dynamics of R{options.areas} at {options.side}, {options.threads} threads, float64", "",
                 "| steady state | method | seconds | products per area | max abs(phi(u) - r) | converged |", "|---|---|---|---|---|---|"]
        for row in found:
            if row["what"] != "modes":
                lines.append(f"| {row['what']} | {row['method']} | {row['seconds']:.1f} | {row['products']} | "
                             f"{row['worst_residual']:.1e} | {row['converged']} |")
        lines += ["", f"| area | units | coupled | slowest of {MODES} modes (tau J) | worst residual | products | seconds |",
                  "|---|---|---|---|---|---|---|"]
        for row in found:
            if row["what"] == "modes":
                lines.append(f"| {row['area']} | {row['units']} | {row['coupled']} | {row['values'][0][0]:.6f} | "
                             f"{row['worst_residual']:.1e} | {row['products']} | {row['seconds']:.1f} |")
        own = next(row for row in found if row["what"] == "modes" and row["area"] == options.area)
        values, products, seconds, residual, note = arpack(Path(folder) / "area.safetensors", options.threads)
        expected = numpy.array([complex(*value) for value in own["values"][:MODES]])
        count = min(len(values), len(expected))
        difference = numpy.abs(numpy.sort(values.real[:count]) - numpy.sort(expected.real[:count])).max() if count else float("nan")
        lines += ["", f"Area {options.area}, ARPACK ({note}): {products} products, {seconds:.1f} s, worst residual {residual:.1e}; "
                  f"dynvis: {own['products']} products (with those for the largest Euler factor), {own['seconds']:.1f} s. "
                  f"Largest difference of real parts {difference:.1e}. Bound of the norm of W: {own['norm_bound']:.4f}."]
    text = "\n".join(lines)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
