"""SHA-256 of files and tensors."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def file_digest(path: Path) -> str:
    """SHA-256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(named: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 over names and their digests, in the order given."""
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in named).encode()).hexdigest()


def tensor_digest(value: "NDArray[Any]") -> str:
    """SHA-256 of the dtype and the little-endian bytes in row-major order.

    The shape is left out on purpose: converters add and drop dimensions of size 1, and a wrong shape is
    what the structure gate sees. A transposed tensor has other bytes.
    """
    import numpy as np

    little = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False))
    total = hashlib.sha256(f"{value.dtype.name}\0".encode())
    total.update(little.reshape(-1).view("u1").data)  # read where they lie
    return total.hexdigest()


ZEROS = "zeros"
"""In the place of a digest: a tensor of zeros, which a converter may leave out (a bias that adds nothing)."""


def constant_digest(value: "NDArray[Any]") -> str:
    """The digest of a constant that an artifact has to hold, or ZEROS."""
    return tensor_digest(value) if value.any() else ZEROS


def digests(constants: "Iterable[tuple[str, NDArray[Any]]]") -> dict[str, str]:
    """Name -> digest of what the deploy form holds, or ZEROS."""
    return {name: constant_digest(value) for name, value in constants}
