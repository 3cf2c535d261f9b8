"""Writes small pictures and what Pillow makes of them, which the engine's tests of decoding and resizing read.

    python benches/reference/images.py OUT_DIR [--seed N]

Seed 0 remakes crates/cords/tests/fixtures/images.safetensors. Under `<kind>/<name>` stand the bytes of a file, and its
pixels [height, width, channels]:

- `whole/<name>/pixels`: `Image.open(file).convert("RGB")`, of grey pictures `convert("L")`;
- `oriented/<name>/pixels`: the same after `ImageOps.exif_transpose`;
- `view/<name>/<number>/pixels`: the window `.../window` (left, top, width, height) of it, resized by
  `Resampling.BILINEAR`;
- `scaled/<name>/<number>/pixels`: the same of windows that are shrunk by 2, 4 and 8.
"""
import argparse
import io
import json
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file


def photograph(random, width, height, mode="RGB"):
    """Waves, an edge, and noise, in every channel other ones."""
    y, x = np.mgrid[0:height, 0:width]
    channels = []
    for _ in range(len(mode)):
        a, b, c = random.uniform(0.05, 0.4, 3)
        wave = 128 + 90 * np.sin(a * x + c) * np.cos(b * y) + 40 * (x + y > (width + height) * random.uniform(0.3, 0.7))
        channels.append(wave + random.normal(0, 5, (height, width)))
    pixels = np.stack(channels, -1).clip(0, 255).astype("uint8")
    return Image.fromarray(pixels[..., 0] if len(mode) == 1 else pixels, mode)


def encoded(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    """A PNG of given depth and kind of colour, which Pillow does not write all of."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rest = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + rest + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpegs(random):
    def of(mode="RGB", size=None):
        return photograph(random, *(size or random.integers(17, 50, 2)), mode)

    for name, sampling in {"444": 0, "422": 1, "420": 2}.items():
        yield name, encoded(of(), quality=90, subsampling=sampling)
        yield f"{name}_progressive", encoded(of(), quality=75, subsampling=sampling, progressive=True)
        yield f"{name}_restarts", encoded(of(), quality=95, subsampling=sampling, restart_marker_blocks=3)
        for width, height in [(1, 1), (2, 3), (3, 2), (4, 5), (16, 16), (17, 8)]:
            yield f"{name}_{width}x{height}", encoded(of(size=(width, height)), quality=90, subsampling=sampling)
    yield "coarse", encoded(of(), quality=5)
    yield "fine", encoded(of(), quality=100, subsampling=0)
    yield "grey", encoded(of("L"), quality=90)
    yield "grey_progressive", encoded(of("L"), quality=90, progressive=True)
    yield "rgb", encoded(of(), quality=90, keep_rgb=True)
    inks = encoded(of("CMYK"), quality=90)
    yield "cmyk", inks
    # The same data, taken as luminance and chrominance for the first three inks.
    adobe = inks.index(b"Adobe")
    yield "ycck", inks[: adobe + 11] + b"\2" + inks[adobe + 12 :]
    yield "a_png", encoded(of(), "PNG")


def pngs(random):
    width, height = 13, 9

    def rows(bits):
        return [row.tobytes() for row in random.integers(0, 256, (height, (width * bits + 7) // 8), dtype="uint8")]

    for depth in [1, 2, 4, 8]:
        yield f"grey_{depth}", png(width, height, depth, 0, rows(depth))
        palette = random.integers(0, 256, 3 << depth, dtype="uint8").tobytes()
        yield f"palette_{depth}", png(width, height, depth, 3, rows(depth), (b"PLTE", palette))
        seen = random.integers(0, 256, 1 << depth, dtype="uint8").tobytes()
        yield f"palette_{depth}_transparent", png(
            width, height, depth, 3, rows(depth), (b"PLTE", palette), (b"tRNS", seen)
        )
    yield "grey_transparent", png(width, height, 8, 0, rows(8), (b"tRNS", b"\0\x40"))
    yield "grey_alpha", png(width, height, 8, 4, rows(16))
    yield "rgb", png(width, height, 8, 2, rows(24))
    yield "rgb_transparent", png(width, height, 8, 2, rows(24), (b"tRNS", b"\0\1\0\2\0\3"))
    yield "rgba", png(width, height, 8, 6, rows(32))
    yield "rgb_16", png(width, height, 16, 2, rows(48))
    yield "rgba_16", png(width, height, 16, 6, rows(64))


def opened(file):
    image = Image.open(io.BytesIO(file))
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    tensors = {}

    def put(name, file, image):
        pixels = np.asarray(image)
        tensors[name] = np.frombuffer(file, "uint8")
        tensors[f"{name}/pixels"] = np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels)

    for kind, files in {"jpeg": jpegs(random), "png": pngs(random)}.items():
        for name, file in files:
            put(f"whole/{kind}_{name}", file, opened(file))
    picture = photograph(random, 21, 14)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        for kind in ["JPEG", "PNG"]:
            file = encoded(picture, kind, exif=exif)
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
            put(f"oriented/{kind.lower()}_{orientation}", file, upright)

    def put_views(name, file, views):
        tensors[name] = np.frombuffer(file, "uint8")
        for number, (window, size) in enumerate(views):
            left, top, width, height = window
            part = opened(file).crop((left, top, left + width, top + height))
            pixels = np.asarray(part.resize(size, Image.Resampling.BILINEAR))
            tensors[f"{name}/{number}/pixels"] = pixels.reshape(size[1], size[0], -1)
            tensors[f"{name}/{number}/window"] = np.array(window, "int64")

    views = [((0, 0, 75, 58), (43, 30)), ((13, 22, 41, 35), (28, 28)), ((74, 57, 1, 1), (5, 4))]
    views += [((7, 0, 9, 31), (20, 31)), ((30, 3, 45, 55), (45, 55)), ((0, 40, 64, 18), (33, 10))]
    for name, options in {"420": {}, "444": {"subsampling": 0}, "progressive": {"progressive": True}}.items():
        put_views(f"view/{name}", encoded(photograph(random, 75, 58), **options), views)
    put_views("view/png", encoded(photograph(random, 75, 58), "PNG"), [*views, ((0, 0, 75, 58), (12, 7))])
    views = [((0, 0, 163, 130), (65, 60)), ((33, 21, 129, 99), (32, 24)), ((1, 2, 160, 127), (19, 15))]
    for name, options in {"420": {}, "422": {"subsampling": 1}, "444": {"subsampling": 0}, "grey": {}}.items():
        image = photograph(random, 163, 130, "L" if name == "grey" else "RGB")
        put_views(f"scaled/{name}", encoded(image, quality=90, **options), views)
    # Rows are averaged first where more than twice as many go as columns.
    views = [((0, 0, 31, 80), (20, size)) for size in [57, 58, 20]] + [((0, 0, 31, 80), (40, 79))]
    put_views("view/tall", encoded(photograph(random, 31, 80), "PNG"), views)
    save_file(tensors, arguments.out / "images.safetensors", {"json": json.dumps({"seed": arguments.seed})})


if __name__ == "__main__":
    main()
