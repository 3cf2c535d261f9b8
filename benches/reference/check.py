"""Compares the reference tensors of two folders, tensor by tensor.

    python benches/reference/check.py FOLDER [OTHER] [--tolerance 1e-10]

OTHER is crates/cords/tests/fixtures where none is given. The measure is the engine's: largest difference over largest
entry. Eigenvalues are compared as sets, for their order is that of whoever computed them. Fails where a difference is
above the tolerance (1e-5 in float32) or where names, shapes, types or configurations differ.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors import safe_open

FIXTURES = pathlib.Path(__file__).parents[2] / "crates/cords/tests/fixtures"


def read(path):
    """Tensors by name, and the configuration."""
    if path.suffix == ".pth":
        return dict(torch.load(path, weights_only=True)), None
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["json"])


def largest_difference(name, a, b):
    a, b = a.double(), b.double()
    if name.endswith("eigenvalues") and a.dim() == 2:
        # Each takes the nearest that is left.
        left, difference = list(torch.view_as_complex(b).numpy()), 0.0
        for value in torch.view_as_complex(a).numpy():
            distances = np.abs(np.array(left) - value)
            nearest = int(distances.argmin())
            difference = max(difference, distances[nearest])
            left.pop(nearest)
    else:
        difference = (a - b).abs().max().item()
    size = b.abs().max().item()
    return difference / size if size > 0 else difference


def compare(path, other):
    """(largest difference, its tensor, whether it is of float32), or a message that says what is not the same."""
    (tensors, configuration), (others, expected) = read(path), read(other)
    if list(tensors) != list(others):
        return f"other names or order: {sorted(tensors.keys() ^ others.keys())}"
    if configuration != expected:
        return f"other configuration: {configuration}, {expected}"
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (others[name].shape, others[name].dtype):
            return f"{name}: {tensor.dtype} {list(tensor.shape)}, {others[name].dtype} {list(others[name].shape)}"
    differences = {name: largest_difference(name, tensor, others[name]) for name, tensor in tensors.items()}
    worst = max(differences, key=differences.get)
    return differences[worst], worst, tensors[worst].dtype == torch.float32


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("other", type=pathlib.Path, nargs="?", default=FIXTURES)
    arguments.add_argument("--tolerance", type=float, default=1e-10)
    given = arguments.parse_args()
    paths = sorted(path for path in given.folder.iterdir() if path.suffix in (".safetensors", ".pth"))
    failed = not paths
    for path in paths:
        other = given.other / path.name
        found = compare(path, other) if other.exists() else f"{given.other} has no such file"
        if isinstance(found, str):
            failed = True
            print(f"{path.name:32} {found}")
        else:
            difference, name, single = found
            failed |= not difference <= (1e-5 if single else given.tolerance)
            print(f"{path.name:32} {difference:.1e}  {name if difference > 0 else 'all tensors are equal'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
