"""Tensors of a safetensors file, mapped into memory and read-only."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._engine import DynvisError

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "u1"}


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Tensors by name and the metadata. Nothing is read before it is used; writing to an array raises `ValueError`.

    Raises:
        OSError: Where the file cannot be opened.
        DynvisError: Where it is no safetensors file.
    """

    def wrong(reason: str) -> DynvisError:
        return DynvisError(f"{path}: not a safetensors file: {reason}")

    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        size = path.stat().st_size
        if not 2 <= length <= size - 8:
            raise wrong("its head does not fit")
        try:
            head: Any = json.loads(file.read(length))
        except ValueError as error:
            raise wrong(f"its head is no JSON ({error})") from None
    if not isinstance(head, dict):
        raise wrong("its head is no object")
    metadata = head.pop("__metadata__", {})
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length) if size > 8 + length else np.empty(0, np.uint8)
    tensors = {}
    for name, entry in head.items():
        try:
            first, end = entry["data_offsets"]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            tensors[name] = data[first:end].view(dtype).reshape(entry["shape"])
        except (KeyError, TypeError, ValueError):
            raise wrong(f"its tensor `{name}` is damaged or of a type that is not read") from None
    return tensors, metadata
