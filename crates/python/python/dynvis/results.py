"""What stages leave beside tables: models, recorded activity and image sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from . import _engine, _safetensors
from ._engine import DynvisError
from ._program import PathLike
from .engine import Network
from .project import Run, output

if TYPE_CHECKING:
    import xarray

    from .torch import Cnn, CordsNet

__all__ = ["ImageSet", "activity", "dataset", "model", "network"]


def _file(ref: PathLike, slot: str, name: str, run: str | Run, project: PathLike | None, cache: PathLike | None) -> Path:
    """The file `name` of an output, whose stage alone may be named, or the file that `ref` is."""
    path = Path(ref)
    if path.is_file():
        return path
    if isinstance(ref, Path):
        raise FileNotFoundError(f"{ref} is no file")
    ref = str(ref)
    file = output(ref if "/" in ref else f"{ref}/{slot}", run=run, project=project, cache=cache) / name
    if not file.is_file():
        raise DynvisError(f"`{ref}` is no {slot}: its folder has no {name}")
    return file


@overload
def model(
    ref: PathLike,
    *,
    run: str | Run = ...,
    library: Literal["torch"] = ...,
    project: PathLike | None = ...,
    cache: PathLike | None = ...,
) -> CordsNet | Cnn: ...
@overload
def model(
    ref: PathLike,
    *,
    run: str | Run = ...,
    library: Literal["numpy"],
    project: PathLike | None = ...,
    cache: PathLike | None = ...,
) -> dict[str, NDArray[np.float32]]: ...
def model(
    ref: PathLike,
    *,
    run: str | Run = "@",
    library: Literal["torch", "numpy"] = "torch",
    project: PathLike | None = None,
    cache: PathLike | None = None,
) -> CordsNet | Cnn | dict[str, NDArray[np.float32]]:
    """A trained model.

    Args:
        ref: A stage that trains or imports a model (`cordsnet@seed=0`), its output (`cordsnet@seed=0/model`), or a
            model file of dynvis.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        library: `torch` for a `torch.nn.Module` (`dynvis.torch`), `numpy` for the parameters under their published
            names, which are mapped from the file and read-only.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Raises:
        CommandError: Where there is no such run or model.
        ImportError: Where PyTorch is asked for and not installed.
    """
    file = _file(ref, "model", "model.safetensors", run, project, cache)
    if library == "numpy":
        return _safetensors.read(file)[0]
    if library != "torch":
        raise ValueError(f"library `{library}`: there are `torch` and `numpy`")
    from .torch import load

    return load(file)


def network(
    ref: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> Network:
    """A trained CordsNet in the engine of dynvis: to be simulated, for gradients, steady states and spectra.

    Args:
        ref: As of `model`.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Raises:
        CommandError: Where there is no such run or model.
        EngineError: Where the model is a CNN, which has no dynamics.
    """
    return Network.load(_file(ref, "model", "model.safetensors", run, project, cache))


def activity(
    ref: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> xarray.Dataset:
    """Activity that a stage `record` has written.

    Args:
        ref: The stage (`record`), its output (`record/activity`), or a file `activity.safetensors`.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Returns:
        A data set with a variable `area.L` for each recorded area L, `(image, time, channel, height, width)` or, pooled,
        `(image, time, channel)`, and `logits`, `(image, time, class)`; coordinates are `image` (index in the image
        set), `label` (of each image) and `time` (ms after image onset; one time for a CNN). Values are mapped from the
        file and read-only: what is not looked at is not read.

    Raises:
        CommandError: Where there is no such run or output.
        ImportError: Where xarray is not installed.
    """
    library = _xarray()
    file = _file(ref, "activity", "activity.safetensors", run, project, cache)
    tensors, metadata = _safetensors.read(file)
    if "cords.activity" not in metadata:
        raise DynvisError(f"{file}: no recorded activity")
    variables: dict[str, Any] = {"logits": (("image", "time", "class"), tensors["logits"])}
    areas = sorted((name for name in tensors if name.startswith("area.")), key=lambda name: int(name[5:]))
    for area in areas:
        values = tensors[area]
        maps = tuple(f"{name}.{area[5:]}" for name in ("channel", "height", "width"))
        variables[area] = (("image", "time", *maps[: values.ndim - 2]), values)
    coordinates = {
        "image": tensors["images"],
        "label": ("image", tensors["labels"]),
        "time": ("time", tensors["times"], {"units": "ms", "long_name": "time after image onset"}),
    }
    found: xarray.Dataset = library.Dataset(variables, coordinates)
    return found


@dataclass(frozen=True)
class ImageSet:
    """Images of a stage `dataset`.

    Attributes:
        folder: Where they are.
        name: Name of the data set.
        channels: Channels of an image, 1 or 3.
        side: Height and width of an image in pixels, as networks are shown it.
        classes: Names of the classes, by label.
        labels: Label of each image, `(images,)`; read-only.
        mean: Mean of each channel, in pixel units [0, 1], by which networks are shown images.
        std: Standard deviation of each channel, likewise.
        attribution: Who made the images, and under what licence they may be used.
        images: Values of 0 to 255, `(images, channels, side, side)`, mapped from the file and read-only; None where
            images are kept as their source has them, of any size: `unit` decodes those.
    """

    folder: Path
    name: str
    channels: int
    side: int
    classes: tuple[str, ...]
    labels: NDArray[np.uint32]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    attribution: str
    images: NDArray[np.uint8] | None
    _splits: tuple[NDArray[np.uint32], ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = f"{self.channels} x {self.side} x {self.side}"
        return f"<ImageSet {self.name}: {len(self)} images of {size} in {len(self.classes)} classes>"

    def split(self, name: Literal["train", "validation", "test"]) -> NDArray[np.uint32]:
        """Indices of the images of a part, `(n,)`; read-only."""
        names = ("train", "validation", "test")
        if name not in names:
            raise ValueError(f"split `{name}`: there are `train`, `validation` and `test`")
        return self._splits[names.index(name)]

    def unit(self, indices: int | Sequence[int] | NDArray[np.integer[Any]] | slice) -> NDArray[np.float32]:
        """Images in pixel units [0, 1] as networks are shown them before normalisation: `(n, channels, side, side)`.

        `Network` takes them as they are.

        Raises:
            IndexError: For an image that there is not.
        """
        chosen = np.atleast_1d(np.arange(len(self))[indices])
        if self.images is not None:
            return self.images[chosen].astype(np.float32) / np.float32(255)
        return _engine.ImageSet.open(self.folder).unit([int(index) for index in chosen])

    def normalised(self, indices: int | Sequence[int] | NDArray[np.integer[Any]] | slice) -> NDArray[np.float32]:
        """Images less `mean`, over `std`: `(n, channels, side, side)`."""
        values = self.unit(indices)
        values -= self.mean[:, None, None]
        # As the engine rounds.
        values *= (np.float32(1) / self.std)[:, None, None]
        return values


def dataset(
    ref: PathLike, *, run: str | Run = "@", project: PathLike | None = None, cache: PathLike | None = None
) -> ImageSet:
    """Images that a stage `dataset` has prepared.

    Args:
        ref: The stage (`digits`), its output (`digits/images`), or the folder of an image set.
        run: `@` (last run), `@-1`, a run's id or its first letters, or a `Run`.
        project: A folder within the project; the present one if not given.
        cache: Where results are kept.

    Raises:
        CommandError: Where there is no such run or output.
    """
    file = Path(ref) / "manifest.json"
    if not file.is_file():
        file = _file(ref, "images", "manifest.json", run, project, cache)
    folder = file.parent
    manifest = json.loads(file.read_bytes())
    if manifest.get("format") != "cords image set":
        raise DynvisError(f"{file}: no image set")
    count, channels, side = manifest["images"], manifest["channels"], manifest["side"]
    labels = np.memmap(folder / "labels.u32", "<u4", "r", shape=(count,))
    ends = np.cumsum(manifest["splits"])
    parts = np.memmap(folder / "splits.u32", "<u4", "r") if ends[-1] else np.empty(0, np.uint32)
    images = None
    if "originals" not in manifest:
        images = np.memmap(folder / "images.u8", "u1", "r", shape=(count, channels, side, side))
    return ImageSet(
        folder=folder,
        name=manifest["name"],
        channels=channels,
        side=side,
        classes=tuple(manifest["classes"]),
        labels=labels,
        mean=np.asarray(manifest["mean"], np.float32),
        std=np.asarray(manifest["std"], np.float32),
        attribution=manifest["attribution"],
        images=images,
        _splits=tuple(np.split(parts, ends[:-1])),
    )


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        raise ImportError("xarray is not installed: pip install dynvis[xarray]") from error
    return xarray
