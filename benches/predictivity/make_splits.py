"""Writes crates/cords/tests/fixtures/splits.json: divisions that scikit-learn makes, for the tests of ours.

    python benches/predictivity/make_splits.py
"""

import json
import pathlib

import numpy
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit


def indices(splitter, labels):
    parts = splitter.split(numpy.zeros(len(labels)), labels)
    return [{"train": train.tolist(), "test": test.tolist()} for train, test in parts]


def case(name, labels, kind, splits, train, seed):
    splitter = kind(n_splits=splits, train_size=train, random_state=seed)
    return {
        "name": name,
        "labels": labels,
        "stratified": kind is StratifiedShuffleSplit,
        "splits": splits,
        "train": train,
        "seed": seed,
        "expected": indices(splitter, labels),
    }


def classes(counts, seed):
    labels = [f"class {c:02}" for c, count in enumerate(counts) for _ in range(count)]
    return [labels[i] for i in numpy.random.RandomState(seed).permutation(len(labels))]


CASES = [
    case("plain", ["a"] * 53, ShuffleSplit, 10, 0.9, 1),
    case("halves of an odd number", ["a"] * 11, ShuffleSplit, 10, 0.5, 1),
    case("plain, more than a refill of the generator", ["a"] * 700, ShuffleSplit, 2, 0.8, 7),
    case("balanced", classes([10] * 8, 0), StratifiedShuffleSplit, 10, 0.9, 1),
    case("balanced, with ties", classes([7] * 9, 1), StratifiedShuffleSplit, 10, 0.75, 1),
    case("unbalanced", classes([3, 5, 8, 13, 21, 2, 11], 2), StratifiedShuffleSplit, 10, 0.85, 1),
    case("unbalanced, another seed", classes([3, 5, 8, 13, 21, 2, 11], 3), StratifiedShuffleSplit, 5, 0.6, 20),
]

path = pathlib.Path(__file__).parents[2] / "crates/cords/tests/fixtures/splits.json"
path.write_text(json.dumps(CASES, separators=(",", ":")) + "\n")
print(path.stat().st_size, "bytes")
