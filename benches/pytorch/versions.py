"""Two versions of dynvis's engine against each other, on the cells of compare.py without PyTorch.

    python benches/pytorch/versions.py OLD/bench_server NEW/bench_server

Both get the same tensors and must give the same bits; then they take turns, in an order that alternates. A ratio is the
old version's CPU time of one step or pass over the new one's, each the median over rounds: above 1, the new one is
faster. `cargo build --release -p cords --example bench_server` builds a version's server in `target/release/examples`.
"""
import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import load_file, save_file

from compare import Server, cells, geometric_mean, inputs, table


def sample(server, cell, seconds):
    answer = server.ask("time", seconds=seconds)
    return 1e3 * answer["cpu_s"] / (answer["passes"] * cell["per"])


def same_bits(servers, folder):
    results = []
    for server in servers:
        path = folder / "outputs.safetensors"
        server.ask("run", outputs=str(path))
        results.append({name: tensor.tobytes() for name, tensor in load_file(path).items()})
    return results[0] == results[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("servers", nargs=2, type=Path, metavar="SERVER", help="the old one, the new one")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each version (half as many training steps)")
    parser.add_argument("--seconds", type=float, default=0.3, help="least length of a kernel's sample")
    parser.add_argument("--only", default="", metavar="TEXT", help="cells whose group, name, pass or batch holds it")
    parser.add_argument("--quick", action="store_true", help="a few small cells")
    options = parser.parse_args()
    if not cells(options):
        parser.error(f"no cell has `{options.only}` in its group, name, pass or batch")
    records = []
    old, new = (Server([str(path.resolve())], 1) for path in options.servers)
    with tempfile.TemporaryDirectory() as name, old, new:
        folder = Path(name)
        for cell in cells(options):
            path = folder / "inputs.safetensors"
            save_file(inputs(cell["case"]), path)
            for server in (old, new):
                server.ask("prepare", case=cell["case"], inputs=str(path))
            same = same_bits((old, new), folder)
            long = cell["group"] == "training step"
            seconds, rounds = (0.0, (options.rounds + 1) // 2) if long else (options.seconds, options.rounds)
            samples = {old: [], new: []}
            for turn in range(rounds):
                for server in (old, new) if turn % 2 == 0 else (new, old):
                    samples[server].append(sample(server, cell, seconds))
            before, after = (statistics.median(samples[server]) for server in (old, new))
            records.append((cell, before, after, same))
            print(f"{cell['group']}, {cell['name']}, batch {cell['batch']}, {cell['pass']}: {before / after:.3f}"
                  f"{'' if same else ' OTHER BITS'}", file=sys.stderr)
    rows = [[c["group"], c["name"], str(c["batch"]), c["pass"], f"{before:.4g}", f"{after:.4g}",
             f"{before / after:.3f}", "yes" if same else "no"] for c, before, after, same in records]
    print(table(["group", "", "batch", "pass", "old [ms]", "new [ms]", "old / new", "same bits"], rows))
    print(f"\nGeometric mean of {len(records)} ratios: "
          f"{geometric_mean([before / after for _, before, after, _ in records]):.3f}")
    if not all(same for *_, same in records):
        sys.exit("the two versions do not give the same bits")


if __name__ == "__main__":
    main()
