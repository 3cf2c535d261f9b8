"""Writes what torchvision's transforms make of images, which the tests of augmentation compare with.

    python benches/reference/augment.py OUT_DIR

OUT_DIR/augment.safetensors is crates/cords/tests/fixtures/augment.safetensors. Every case is one operation of
torchvision.transforms.v2 with given parameters, on 8-bit levels and on float32 in [0, 1]. Parameters, sizes and names
stand as JSON under the metadata key `json`.
"""
import argparse
import json
import math
import pathlib
from unittest import mock

import torch
import torchvision.transforms.v2 as v2
import torchvision.transforms.v2.functional as F
from safetensors.torch import save_file

MODES = {"nearest": F.InterpolationMode.NEAREST, "bilinear": F.InterpolationMode.BILINEAR}
INTERPOLATIONS = [("nearest", None), ("nearest", 0.0), ("bilinear", None), ("bilinear", 0.0), ("bilinear", 0.6)]


def images():
    """8-bit images by name: shades with noise and with the extreme levels, and some that are hard for one operation."""
    def shaded(channels, height, width):
        y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
        planes = [torch.sin((3 + c) * x + 2 * c) * torch.cos(4 * y - c) for c in range(channels)]
        levels = 128 + 110 * torch.stack(planes) + 15 * torch.randn(channels, height, width)
        levels[:, 0, 2], levels[:, 1, 1] = 0, 255
        return levels.clamp(0, 255).round().to(torch.uint8)

    coarse = torch.randint(0, 4, (3, 9, 11), dtype=torch.uint8) * 60 + 20
    coarse[1] = 77
    greys = shaded(1, 10, 8).expand(3, -1, -1).clone()
    greys[2, :5] = 40
    return {
        "colour": shaded(3, 20, 16),
        "grey": shaded(1, 18, 18),
        # Few levels, and a plane of one.
        "coarse": coarse,
        # Pixels without a hue.
        "greys": greys,
        # Too small to sharpen.
        "tiny": shaded(1, 2, 3),
    }


class Cases:
    """Tensors to write, and what each of them is."""

    def __init__(self):
        self.tensors, self.cases = {}, []
        self.images = images()
        for name, levels in self.images.items():
            self.tensors[f"{name}.u8"] = levels
            self.tensors[f"{name}.f32"] = levels.float() / 255

    def add(self, operation, image, change, **parameters):
        """`change(levels, bound)` of the image's 8-bit levels and of its floats."""
        self.cases.append({"operation": operation, "image": image, **parameters})
        for kind, bound in (("u8", 255.0), ("f32", 1.0)):
            changed = change(self.tensors[f"{image}.{kind}"].clone(), bound)
            self.tensors[f"out.{len(self.cases) - 1}.{kind}"] = changed.contiguous()


def colours(cases):
    for factor in (0.0, 0.37, 1.0, 1.9):
        cases.add("brightness", "colour", lambda x, _: F.adjust_brightness(x, factor), factor=factor)
        for image in ("colour", "grey", "greys"):
            cases.add("contrast", image, lambda x, _: F.adjust_contrast(x, factor), factor=factor)
        for image in ("colour", "tiny"):
            cases.add("saturation", image, lambda x, _: F.adjust_saturation(x, factor), factor=factor)
            cases.add("sharpness", image, lambda x, _: F.adjust_sharpness(x, factor), factor=factor)
    for share in (-0.5, -0.13, 0.0, 0.2, 0.5):
        for image in ("colour", "greys", "tiny"):
            cases.add("hue", image, lambda x, _: F.adjust_hue(x, share), share=share)
    for bits in (0, 1, 4, 7, 8):
        cases.add("posterize", "grey", lambda x, _: F.posterize(x, bits), bits=bits)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        cases.add("solarize", "grey", lambda x, bound: F.solarize(x, bound * threshold), threshold=threshold)
    for image in ("colour", "coarse", "grey", "tiny"):
        cases.add("autocontrast", image, lambda x, _: F.autocontrast(x))
        cases.add("equalize", image, lambda x, _: F.equalize(x))
    cases.add("invert", "colour", lambda x, _: F.invert(x))
    cases.add("flip", "colour", lambda x, _: F.horizontal_flip(x))


def filled(fill, bound):
    return None if fill is None else fill * bound


def geometry(cases):
    for degrees in (9.0, -45.0, 90.0, 180.0, 270.0):
        for mode, fill in INTERPOLATIONS[::2] if degrees % 90 else INTERPOLATIONS[:1]:
            for image in ("colour", "grey"):
                change = lambda x, bound: F.rotate(x, degrees, MODES[mode], fill=filled(fill, bound))
                cases.add("rotate", image, change, degrees=degrees, interpolation=mode, fill=fill)
    changes = [
        # angle, shift, magnification, shear along rows and columns
        (0.0, (3, -2), 1.0, (0.0, 0.0)),
        (5.0, (1, 0), 0.95, (5.0, 0.0)),
        (-30.0, (0, 4), 1.5, (0.0, -20.0)),
        (90.0, (0, 0), 0.5, (45.0, 0.0)),
        (180.0, (-30, 0), 1.0, (0.0, 0.0)),
        (0.0, (0, 0), 2.0, (0.0, 0.0)),
        (12.0, (0, 0), 0.01, (0.0, 0.0)),
    ]
    for number, (angle, translate, scale, shear) in enumerate(changes):
        for mode, fill in INTERPOLATIONS if number in (1, 2) else INTERPOLATIONS[:1]:
            image = ("colour", "grey")[number % 2]
            height, width = cases.images[image].shape[1:]
            centre = (0.0, 0.0) if number != 2 else (-0.5 * width, -0.5 * height)
            change = lambda x, bound: F.affine(
                x, angle, list(translate), scale, list(shear), MODES[mode], fill=filled(fill, bound),
                center=[width / 2 + centre[0], height / 2 + centre[1]],
            )
            cases.add("affine", image, change, angle=angle, translate=translate, scale=scale, shear=shear,
                      centre=centre, interpolation=mode, fill=fill)


def elastics(cases):
    for image in ("colour", "grey"):
        height, width = cases.images[image].shape[1:]
        transform = v2.ElasticTransform(alpha=20.0, sigma=2.0 if image == "colour" else 1.3)
        noise = [torch.rand(1, 1, height, width) for _ in range(2)]
        with mock.patch("torch.rand", side_effect=noise):
            displacement = transform.make_params([cases.images[image]])["displacement"]
        planes = torch.stack([field[0, 0] for field in noise]) * 2 - 1
        cases.tensors[f"noise.{image}"] = planes.contiguous()
        cases.tensors[f"displacement.{image}"] = displacement[0].permute(2, 0, 1).contiguous()
        for mode, fill in (("bilinear", 0.0), ("bilinear", None), ("nearest", None)):
            change = lambda x, bound: F.elastic(x, displacement, MODES[mode], fill=filled(fill, bound))
            cases.add("elastic", image, change, interpolation=mode, fill=fill, alpha=20.0, sigma=transform.sigma[0])


def rectangles(cases):
    for left, top, width, height in ((3, 4, 10, 7), (0, 0, 16, 20), (5, 5, 0, 3), (15, 19, 1, 1)):
        change = lambda x, _: F.erase(x, top, left, height, width, torch.zeros(1, 1, 1, dtype=x.dtype))
        cases.add("erase", "colour", change, window=(left, top, width, height))


def drawn(transform, size, area, log_ratio):
    """The rectangle that a transform makes of its draws; it begins at the first row and column that it may."""
    height, width = size
    draws = [torch.tensor([value]) for value in [area, log_ratio] * 10]
    image = torch.zeros(3, height, width)
    uniform = mock.patch("torch.Tensor.uniform_", side_effect=draws)
    with uniform, mock.patch("torch.randint", return_value=torch.tensor([0])):
        return transform.make_params([image])


def windows():
    """Rectangles of crops and erasures by share of the area and logarithm of the shape."""
    rows = []
    crop, erasing = v2.RandomResizedCrop(7), v2.RandomErasing()
    for size in ((500, 375), (224, 224), (28, 28), (3, 400), (400, 3), (1, 1), (100, 130)):
        for area, ratio in ((1.0, 1.0), (0.08, 0.75), (0.9, 4 / 3), (0.31, 0.9), (0.02, 3.3)):
            log = math.log(ratio)
            found = drawn(crop, size, area, log)
            erased = drawn(erasing, size, area, log)
            rows.append({
                "size": size, "area": area, "ratio": ratio,
                "crop": [found[name] for name in ("left", "top", "width", "height")],
                "erased": None if erased["v"] is None else [erased["w"], erased["h"]],
            })
    return rows


def automatic(cases):
    """Every operation of both policies with both signs, and the magnitudes of all bins."""
    tables = []
    for policy, transform in (("rand_augment", v2.RandAugment()), ("trivial_augment", v2.TrivialAugmentWide())):
        for operation, (magnitudes, signed) in transform._AUGMENTATION_SPACE.items():
            for bins, height, width in ((31, 224, 224), (31, 331, 28), (10, 32, 500), (2, 7, 7)):
                values = magnitudes(bins, height, width)
                if values is not None:
                    tables.append({"policy": policy, "operation": operation, "bins": bins, "height": height,
                                   "width": width, "magnitudes": [float(value) for value in values]})
            height, width = cases.images["colour"].shape[1:]
            values = magnitudes(31, height, width)
            bin = 9 if policy == "rand_augment" else 30
            if values is None and bin != 9:
                continue
            magnitude = 0.0 if values is None else float(values[bin])
            for sign in (1, -1) if signed else (1,):
                change = lambda x, _: transform._apply_image_or_video_transform(
                    x, operation, sign * magnitude, interpolation=transform.interpolation, fill=transform._fill)
                cases.add("automatic", "colour", change, name=operation, policy=policy, bin=bin, sign=sign)
    return tables


def mixes(cases):
    """A batch of three mixed by weights and rectangles."""
    batch, labels = torch.rand(3, 3, 6, 5), torch.tensor([2, 0, 3])
    cases.tensors["batch"] = batch
    rows = []
    for number, (weight, x, y) in enumerate(((0.3, 1, 4), (0.999, 2, 2), (0.0, 0, 5), (0.75, 4, 0))):
        for transform in (v2.CutMix(num_classes=4), v2.MixUp(num_classes=4)):
            transform._dist = mock.Mock(sample=lambda _: torch.tensor(weight))
            places = [torch.tensor([x]), torch.tensor([y])]
            with mock.patch("torch.randint", side_effect=places):
                mixed, soft = transform(batch, labels)
            name = type(transform).__name__
            cases.tensors[f"mixed.{number}.{name}"], cases.tensors[f"soft.{number}.{name}"] = mixed, soft
        rows.append({"weight": weight, "centre": (x, y)})
    return {"labels": labels.tolist(), "draws": rows}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", metavar="OUT_DIR", type=pathlib.Path)
    folder = arguments.parse_args().folder
    torch.set_num_threads(1)
    torch.manual_seed(19)
    cases = Cases()
    colours(cases)
    geometry(cases)
    elastics(cases)
    rectangles(cases)
    tables = automatic(cases)
    described = {"cases": cases.cases, "windows": windows(), "magnitudes": tables, "mixes": mixes(cases)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(cases.tensors, folder / "augment.safetensors", {"json": json.dumps(described)})


if __name__ == "__main__":
    main()
