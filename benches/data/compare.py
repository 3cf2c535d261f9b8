"""Our loading of photographs beside torchvision's, in one run on the same JPEGs.

    cargo build --release -p cords --example bench_data
    python benches/data/compare.py FOLDER_OF_JPEGS [--threads 1] [--epochs 3] [--paces 200 1000] [--evaluate]
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
BATCH = 256
# Batches that wait for the consumer: of torchvision for each worker.
AHEAD = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = {"random_resized_crop": {}, "horizontal_flip": 0.5, "rand_augment": {}}


class Pictures:
    """A data set as torchvision's ImageFolder and its reference scripts have it."""

    def __init__(self, files, decoder):
        import torch
        from torchvision.transforms import v2

        self.files, self.decoder = files, decoder
        to_tensor = [v2.PILToTensor()] if decoder == "pillow" else []
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(224, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(),
                *to_tensor,
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        if self.decoder == "pillow":
            from PIL import Image

            with open(self.files[i], "rb") as file:
                return self.transform(Image.open(file).convert("RGB"))
        from torchvision.io import ImageReadMode, decode_jpeg, read_file

        return self.transform(decode_jpeg(read_file(self.files[i]), mode=ImageReadMode.RGB))


def resident(processes):
    """Resident memory of processes in MB; what they share counts once."""
    total = 0
    for process in processes:
        try:
            rollup = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total / 1000 * 1.024


def theirs(files, decoder, workers, epochs, pace, pipe):
    import resource

    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    extra = {"prefetch_factor": AHEAD, "persistent_workers": True} if workers else {}
    loader = DataLoader(Pictures(files, decoder), BATCH, num_workers=workers, **extra)
    peak, running = [0.0], [True]

    def watch():
        while running[0]:
            children = [child.pid for child in multiprocessing.active_children()]
            peak[0] = max(peak[0], resident([os.getpid(), *children]))
            time.sleep(0.1)

    def processor_seconds(who):
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = processor_seconds(resource.RUSAGE_SELF)
    start, count, waited = time.perf_counter(), 0, 0.0
    for _ in range(epochs):
        batches = iter(loader)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            if count > 0:
                waited += time.perf_counter() - asked
            count += len(batch)
            if pace:
                time.sleep(len(batch) / pace)
    seconds = time.perf_counter() - start
    running[0] = False
    watcher.join()
    own = processor_seconds(resource.RUSAGE_SELF) - before
    # Workers are counted once they have ended.
    del batches, loader
    cpu = own + processor_seconds(resource.RUSAGE_CHILDREN)
    pipe.send({"images": count, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak[0], "waited": waited})


def run_theirs(*arguments):
    receive, send = multiprocessing.Pipe(False)
    process = multiprocessing.get_context("spawn").Process(target=theirs, args=(*arguments, send))
    process.start()
    result = receive.recv()
    process.join()
    return result


def run_ours(program, *arguments):
    command = [program, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def show(name, result, pace):
    speed, core = result["images"] / result["seconds"], result["images"] / result["cpu_seconds"]
    text = f"{name:24} {speed:7.0f} images/s {core:7.0f} a core {result['peak_mb']:7.0f} MB"
    if pace:
        text += f"   at {pace} images/s waits {100 * result['waited'] / result['seconds']:5.1f} % of its time"
    print(text, flush=True)
    return core


def evaluate(program, files, images, folder):
    """The views for evaluation beside Pillow's."""
    import numpy
    from PIL import Image
    from torchvision.transforms import v2

    out = folder / "views"
    run_ours(program, "evaluate", images, out)
    ours = numpy.fromfile(out, "uint8").reshape(-1, 3, 224, 224)
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    means, largest = [], 0
    for file, view in zip(files, ours, strict=True):
        expected = numpy.asarray(transform(Image.open(file).convert("RGB"))).transpose(2, 0, 1)
        difference = numpy.abs(view.astype(int) - expected)
        means.append(difference.mean())
        largest = max(largest, difference.max())
    equal = sum(mean == 0 for mean in means)
    print(f"views: {equal} of {len(means)} equal; largest mean difference {max(means):.3f}, of a level {largest}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1, help="ours, and workers of torchvision")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--paces", type=float, nargs="*", default=[])
    parser.add_argument("--evaluate", action="store_true")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--program", default=str(target / "release/examples/bench_data"))
    arguments = parser.parse_args()
    files = sorted(
        path for path in arguments.folder.resolve().iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".jpe")
    )
    print(f"{len(files)} files, {sum(len(path.read_bytes()) for path in files) / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # A folder of one class with these files alone.
        source = folder / "source" / "all"
        source.mkdir(parents=True)
        for path in files:
            (source / path.name).symlink_to(path)
        config = {
            "source": {"name": "image_folder", "path": str(source.parent)},
            "store": "encoded",
            "side": 224,
            "resize": 256,
            "channels": 3,
            "validation_fraction": 0.0,
            "test_fraction": 0.0,
        }
        images = folder / "images"
        prepared = run_ours(arguments.program, "prepare", json.dumps(config), images)
        print(f"prepared in {prepared['seconds']:.1f} s, {prepared['peak_mb']:.0f} MB", flush=True)
        if arguments.evaluate:
            evaluate(arguments.program, files, images, folder)
        threads, augment = arguments.threads, json.dumps(AUGMENT)
        for pace in [0, *arguments.paces]:
            cores = {}
            for decoder in ["pillow", "decode_jpeg"]:
                # Without workers there is nothing ahead of a consumer.
                result = run_theirs(files, decoder, threads if threads > 1 or pace else 0, arguments.epochs, pace)
                cores[decoder] = show(f"torchvision, {decoder}", result, pace)
            result = run_ours(arguments.program, "load", images, augment, threads, arguments.epochs, pace)
            own = show("dynvis", result, pace)
            for decoder, core in cores.items():
                print(f"  {own / core:.2f} times the images a core of torchvision with {decoder}", flush=True)


if __name__ == "__main__":
    main()
