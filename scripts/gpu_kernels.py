#!/usr/bin/env python3
"""Time and bytes of each kernel, summed by name, from what `ncu --csv` has written with the metrics
gpu__time_duration.sum, dram__bytes_read.sum and dram__bytes_write.sum.

    python scripts/gpu_kernels.py FILE
"""
import csv
import sys

SECONDS = {"nsecond": 1e-9, "ns": 1e-9, "usecond": 1e-6, "us": 1e-6, "msecond": 1e-3, "ms": 1e-3, "second": 1, "s": 1}
BYTES = {"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}


def main(path):
    lines = open(path, encoding="utf-8", errors="replace").read().splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        sys.exit("error: ncu has measured nothing: " + (lines[-1] if lines else "no output"))
    # What the program itself prints lies among the rows.
    rows = csv.DictReader(line for line in lines[start:] if line.startswith('"'))
    kernels, ids = {}, set()
    for row in rows:
        kernel = kernels.setdefault(row["Kernel Name"], {"calls": set(), "s": 0.0, "read": 0.0, "write": 0.0})
        kernel["calls"].add(row["ID"])
        ids.add(row["ID"])
        value, unit = float(row["Metric Value"].replace(",", "")), row["Metric Unit"]
        if row["Metric Name"] == "gpu__time_duration.sum":
            kernel["s"] += value * SECONDS[unit]
        else:
            kernel["read" if "read" in row["Metric Name"] else "write"] += value * BYTES[unit]
    total = sum(kernel["s"] for kernel in kernels.values())
    print(f"{len(ids)} launches, {total * 1e3:.2f} ms")
    print(f"{'ms':>9} {'share':>6} {'calls':>6} {'read MB':>9} {'written':>9} {'GB/s':>6}  kernel")
    for name, kernel in sorted(kernels.items(), key=lambda item: -item[1]["s"]):
        moved = kernel["read"] + kernel["write"]
        rate = moved / kernel["s"] / 1e9 if kernel["s"] else 0
        print(f"{kernel['s'] * 1e3:9.3f} {kernel['s'] / total:6.1%} {len(kernel['calls']):6} "
              f"{kernel['read'] / 1e6:9.1f} {kernel['write'] / 1e6:9.1f} {rate:6.0f}  {name[:150]}")


if __name__ == "__main__":
    main(sys.argv[1])
