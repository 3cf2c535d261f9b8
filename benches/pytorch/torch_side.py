"""PyTorch's side of compare.py: the same kernels and training steps as the engine's, in several variants.

Reads one JSON request a line from standard input and answers each with one JSON line; tensors come and go as
safetensors files. OMP_NUM_THREADS says how many threads work.
"""
import ctypes
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import networks
from by_hand import ByHand
from packed import Packed, compiled_adjoint, compiled_leak, input_gradient, transposed, weight_gradient

CHANNELS_LAST = torch.channels_last
# Steps in one compiled graph of the recurrent kernel.
UNROLLED = 10


def last(tensor):
    return tensor.contiguous(memory_format=CHANNELS_LAST)


def recurrent_forward(case, tensors):
    weight, drive, start = tensors["weight"], tensors["drive"], tensors["start"]
    alpha, steps = case["alpha"], case["steps"]
    weight_last, drive_last, start_last = last(weight), last(drive), last(start)

    def plain():
        def run():
            r = start
            for _ in range(steps):
                r = (1 - alpha) * r + alpha * F.relu(F.conv2d(r, weight, padding=1) + drive)
            return {"state": r}
        return run

    def channels_last():
        def run():
            r = start_last.clone(memory_format=torch.preserve_format)
            for _ in range(steps):
                r.lerp_(F.conv2d(r, weight_last, padding=1).add_(drive_last).relu_(), alpha)
            return {"state": r}
        return run

    def prepacked():
        conv = Packed(weight_last, start.shape)

        def run():
            r = start_last.clone(memory_format=torch.preserve_format)
            for _ in range(steps):
                r.lerp_(conv.plus(r, drive_last, relu=True), alpha)
            return {"state": r}
        return run

    def frozen(options):
        def build():
            unrolled = UNROLLED if steps % UNROLLED == 0 else 1

            class Steps(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.weight = nn.Parameter(weight_last, requires_grad=False)

                def forward(self, r, drive):
                    for _ in range(unrolled):
                        r = torch.lerp(r, F.relu(F.conv2d(r, self.weight, padding=1) + drive), alpha)
                    return r

            compiled = torch.compile(Steps().eval(), dynamic=False, options={"freezing": True, **options})

            def run():
                r = start_last
                for _ in range(steps // unrolled):
                    r = compiled(r, drive_last)
                return {"state": r}
            return run
        return build

    return {
        "plain": plain,
        "channels_last": channels_last,
        "prepacked": prepacked,
        "inductor frozen": frozen({}),
        "inductor frozen, C++ wrapper": frozen({"cpp_wrapper": True}),
    }


def recurrent_backward(case, tensors):
    alpha, steps = case["alpha"], case["steps"]
    names = ("weight", "drive")

    def autograd(advance, layout, unrolled=1):
        def build():
            place = last if layout is CHANNELS_LAST else (lambda tensor: tensor)
            weight, drive = (place(tensors[name]).clone().requires_grad_() for name in names)
            start, seed = place(tensors["start"]), place(tensors["gradient"])
            advance_ = advance()

            def run():
                r = start
                for _ in range(steps // unrolled):
                    r = advance_(r, weight, drive)
                gradients = torch.autograd.grad(r, (weight, drive), seed)
                return {"state": r.detach(), **dict(zip(names, gradients))}
            return run
        return build

    def plain(r, weight, drive):
        return (1 - alpha) * r + alpha * F.relu(F.conv2d(r, weight, padding=1) + drive)

    def in_place(r, weight, drive):
        return torch.lerp(r, F.conv2d(r, weight, padding=1).add_(drive).relu_(), alpha)

    unrolled = UNROLLED if steps % UNROLLED == 0 else 1

    def many(r, weight, drive):
        for _ in range(unrolled):
            r = torch.lerp(r, F.relu(F.conv2d(r, weight, padding=1) + drive), alpha)
        return r

    def by_hand():
        weight, drive, start, seed = (last(tensors[n]) for n in ("weight", "drive", "start", "gradient"))
        batch = len(start)
        kept = last(start.repeat(steps + 1, 1, 1, 1))
        delta = last(start.repeat(steps, 1, 1, 1))
        state = [kept[t * batch:(t + 1) * batch] for t in range(steps + 1)]
        deltas = [delta[t * batch:(t + 1) * batch] for t in range(steps)]

        def run():
            conv, back = Packed(weight, start.shape), transposed(weight, start.shape)
            g, total = seed.clone(memory_format=torch.preserve_format), torch.zeros_like(drive)
            for t in range(steps):
                compiled_leak(state[t], conv.plus(state[t], drive, relu=True), alpha, state[t + 1])
            for t in reversed(range(steps)):
                compiled_adjoint(state[t], state[t + 1], g, deltas[t], total, alpha)
                if t > 0:
                    g = back.plus(deltas[t], g)
            dw = weight_gradient(kept[:steps * batch], delta, weight)
            return {"state": state[steps], "weight": dw, "drive": total}
        return run

    return {
        "plain": autograd(lambda: plain, torch.contiguous_format),
        "channels_last": autograd(lambda: in_place, CHANNELS_LAST),
        "inductor": autograd(lambda: torch.compile(many, dynamic=False), CHANNELS_LAST, unrolled),
        "by hand": lambda: torch.no_grad()(by_hand()),
    }


def convolution(case, tensors):
    stride, padding, steps = case["stride"], case["padding"], case["steps"]
    weight = tensors["weight"]

    def copies(tensor, place):
        return [place(tensor).clone(memory_format=torch.preserve_format) for _ in range(steps)]

    def variant(place, packed=False, gathered=False):
        def build():
            w, xs, dys = place(weight), copies(tensors["x"], place), copies(tensors["dy"], place)
            conv = Packed(w, xs[0].shape, stride, padding) if packed else None
            x_all, dy_all = (place(torch.cat(part)) for part in (xs, dys)) if gathered else (None, None)

            def run():
                packed_now = Packed(w, xs[0].shape, stride, padding) if packed and case["backward"] else conv
                for x in xs:
                    y = packed_now(x) if packed else F.conv2d(x, w, None, stride, padding)
                out = {"y": y}
                if case["backward"]:
                    if case["input_gradient"]:
                        for x, dy in zip(xs, dys):
                            out["dx"] = input_gradient(x, dy, w, stride, padding)
                    if gathered:
                        out["weight"] = weight_gradient(x_all, dy_all, w, stride, padding)
                    else:
                        out["weight"] = weight_gradient(xs[0], dys[0], w, stride, padding)
                        for x, dy in zip(xs[1:], dys[1:]):
                            out["weight"].add_(weight_gradient(x, dy, w, stride, padding))
                return out
            return torch.no_grad()(run)
        return build

    def plain(tensor):
        return tensor

    variants = {
        "plain": variant(plain),
        "channels_last": variant(last),
        "prepacked": variant(last, packed=True),
    }
    if case["backward"]:
        variants["prepacked, gathered"] = variant(last, packed=True, gathered=True)
    return variants


def pool(case, tensors):
    steps = case["steps"]

    def pool_forward(x):
        return F.avg_pool2d(x, 3, 2, 1)

    def pool_backward(dy, x):
        return torch.ops.aten.avg_pool2d_backward(dy, x, [3, 3], [2, 2], [1, 1], False, True, None)

    def variant(place, prepare=lambda function: function):
        def build():
            xs, dys = ([place(tensors[n]).clone(memory_format=torch.preserve_format) for _ in range(steps)]
                       for n in ("x", "dy"))
            forward, backward = prepare(pool_forward), prepare(pool_backward)

            def run():
                for x in xs:
                    out = {"y": forward(x)}
                if case["backward"]:
                    for x, dy in zip(xs, dys):
                        out["dx"] = backward(dy, x)
                return out
            return torch.no_grad()(run)
        return build

    def compiled(function):
        return torch.compile(function, dynamic=False)

    def plain(tensor):
        return tensor

    return {
        "plain": variant(plain),
        "channels_last": variant(last),
        "inductor": variant(plain, compiled),
        "inductor, channels_last": variant(last, compiled),
    }


def training(case, tensors):
    images, labels = tensors.pop("images"), torch.tensor(case["labels"])
    image_side = case["image_side"]

    def build(make):
        def prepared():
            network = make()
            return lambda: network.run(images, labels)
        return prepared

    def compiled():
        return torch.compile(networks.advance, dynamic=False)

    return {
        "published": build(lambda: networks.Published(tensors, case, image_side)),
        "channels_last": build(lambda: networks.Autograd(tensors, case, image_side, networks.advance_in_place)),
        "inductor": build(lambda: networks.Autograd(tensors, case, image_side, compiled())),
        "by hand": build(lambda: ByHand(tensors, case, image_side)),
    }


def variants(case, tensors):
    """Variant name -> what builds its pass; a pass returns tensors by name."""
    if case["kind"] == "recurrent":
        build = recurrent_backward if case["backward"] else recurrent_forward
        built = build(case, tensors)
        return built if case["backward"] else {n: lambda b=b: torch.no_grad()(b()) for n, b in built.items()}
    return {"convolution": convolution, "pool": pool, "training": training}[case["kind"]](case, tensors)


def status_bytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure_memory(run):
    # What an earlier, shorter pass left to the allocator goes back first.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = status_bytes("VmRSS:")
    run()
    return [before, status_bytes("VmHWM:")]


def main():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    built, passes = {}, {}

    def a_pass(name):
        if name not in passes:
            passes[name] = built[name]()
        return passes[name]

    for line in sys.stdin:
        request, answer = json.loads(line), {}
        match request["do"]:
            case "prepare":
                passes.clear()
                built = variants(request["case"], load_file(request["inputs"]))
                answer = {"variants": list(built)}
            case "run":
                outputs = a_pass(request["variant"])()
                save_file({n: t.detach().contiguous() for n, t in outputs.items()}, request["outputs"])
            case "drop":
                passes.pop(request["variant"], None)
            case "time":
                run, count = a_pass(request["variant"]), 0
                cpu, wall = time.process_time(), time.perf_counter()
                while count == 0 or time.perf_counter() - wall < request["seconds"]:
                    run()
                    count += 1
                answer = {
                    "wall_s": time.perf_counter() - wall,
                    "cpu_s": time.process_time() - cpu,
                    "passes": count,
                }
            case "memory":
                answer = {"memory": measure_memory(a_pass(request["variant"]))}
            case "versions":
                answer = {"torch": torch.__version__, "onednn": torch.backends.mkldnn.is_available()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
