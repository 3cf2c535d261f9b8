"""Our regressions beside scikit-learn's on the same random data: agreement, seconds and peak memory, in one run.

    cargo build --release -p cords --example bench_predictivity
    python benches/predictivity/compare.py                                       # small: agreement of all kinds
    python benches/predictivity/compare.py --stimuli 3000 --features 25088 --neurons 168 --splits 10 --only pls

Each side runs in a process of its own and reads the same files; reading counts.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import subprocess
import tempfile
import time

import numpy

ROOT = pathlib.Path(__file__).parents[2]


def generate(folder, stimuli, features, neurons, seed):
    """Rectified features of a decaying spectrum; responses linear in what drives them, with noise."""
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(seed)
    latent = random.normal(size=(stimuli, 400)) * numpy.arange(1, 401) ** -0.5
    activity = numpy.empty((stimuli, 1, features), "float32")
    for first in range(0, features, 1024):
        width = min(1024, features - first)
        drive = latent @ random.normal(size=(400, width)) + 0.3 * random.normal(size=(stimuli, width))
        activity[:, 0, first : first + width] = numpy.maximum(drive, 0.0)
    weights = random.normal(size=(100, neurons))
    responses = latent[:, :100] @ weights
    responses += 0.5 * responses.std() * random.normal(size=responses.shape)
    images = numpy.arange(stimuli, dtype="int64")
    save_file(
        {"area.0": activity, "times": numpy.zeros(1), "images": images, "labels": 0 * images},
        folder / "activity.safetensors",
    )
    names = {
        "format": 1,
        "stimuli": [str(i) for i in range(stimuli)],
        "objects": [],
        "neurons": [str(i) for i in range(neurons)],
        "regions": [""] * neurons,
    }
    save_file(
        {"responses": responses[:, None, :, None].copy(), "bins": numpy.array([[70.0, 170.0]])},
        folder / "recordings.safetensors",
        {"recordings": json.dumps(names)},
    )


def theirs(folder, kind, components, splits, pipe):
    from safetensors.numpy import load_file
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import ShuffleSplit

    start = time.perf_counter()
    x = load_file(folder / "activity.safetensors")["area.0"][:, 0]
    y = load_file(folder / "recordings.safetensors")["responses"][:, 0, :, 0]
    correlations, iterations = [], []
    for train, test in ShuffleSplit(n_splits=splits, train_size=0.9, random_state=1).split(x):
        if kind == "ridge":
            model = Ridge(alpha=10.0)
        else:
            model = PLSRegression(n_components=components, scale=kind == "pls_scaled")
        # In float64, as scikit-learn's PLS computes anyway; its Ridge would compute float32 features in float32.
        model.fit(x[train].astype("float64"), y[train])
        predicted = model.predict(x[test].astype("float64"))
        correlations.append([numpy.corrcoef(predicted[:, n], y[test][:, n])[0, 1] for n in range(y.shape[1])])
        if kind != "ridge":
            iterations.append(sum(model.n_iter_))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 * 1.024
        pipe.send({"seconds": seconds, "peak_mb": peak, "r": correlations, "iterations": iterations})
    pipe.send(None)


def ours(program, folder, kind, components, splits):
    extra = {"pls": [], "pls_scaled": ["scaled"], "ridge": ["ridge", "10"]}[kind]
    command = [program, str(folder), str(components), str(splits), *extra]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimuli", type=int, default=300)
    parser.add_argument("--features", type=int, default=700)
    parser.add_argument("--neurons", type=int, default=20)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--components", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["pls", "pls_scaled", "ridge"])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--program", default=str(target / "release/examples/bench_predictivity"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        generate(folder, arguments.stimuli, arguments.features, arguments.neurons, arguments.seed)
        for kind in [arguments.only] if arguments.only else ["pls", "pls_scaled", "ridge"]:
            own = ours(arguments.program, folder, kind, arguments.components, arguments.splits)
            print(f"{kind:10} dynvis        {own['seconds']:9.2f} s {own['peak_mb']:8.0f} MB", flush=True)
            receive, send = multiprocessing.Pipe(False)
            other = (folder, kind, arguments.components, arguments.splits, send)
            process = multiprocessing.get_context("spawn").Process(target=theirs, args=other)
            process.start()
            done = None
            while (message := receive.recv()) is not None:
                done = message
                count = len(done["r"])
                print(
                    f"{kind:10} scikit-learn  {done['seconds']:9.2f} s {done['peak_mb']:8.0f} MB"
                    f" after {count} of {arguments.splits} splits, {sum(done['iterations'])} iterations",
                    flush=True,
                )
            process.join()
            difference = numpy.abs(numpy.array(own["r"]) - numpy.array(done["r"])).max()
            print(
                f"{kind:10} {done['seconds'] / own['seconds']:.1f} times as fast,"
                f" {own['peak_mb'] / done['peak_mb']:.3f} of the memory; largest difference of r {difference:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
