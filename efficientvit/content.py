"""What a file is that is not what it should be, by its first bytes: a page of a server, an archive, a pointer."""

import re
from pathlib import Path

_UNPACK = "unpack it, and name the file in it"
_PYTORCH = "name the PyTorch checkpoint"
_MAGIC = (
    (0, b"version https://git-lfs", "a Git LFS pointer: the file itself was never fetched", "fetch it: git lfs pull"),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes it", _PYTORCH),
    (0, b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (4, b"TFL3", "a TensorFlow Lite model", _PYTORCH),
    (0, b"%PDF", "a PDF document", ""),
)
"""Where, which bytes, what it is, and what to do in place of fetching it again, if anything."""

_FORMATS = {
    ".onnx": "an ONNX model",
    ".ort": "a model of ONNX Runtime",
    ".mlpackage": "a Core ML package",
    ".mlmodel": "a Core ML model",
    ".mlmodelc": "a compiled Core ML model",
    ".aimodel": "a Core AI asset",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".trt": "a TensorRT engine",
    ".tflite": "a TensorFlow Lite model",
    ".pte": "an ExecuTorch program",
}
_EXPORTED = (
    (re.compile(rb".{4}TFL3", re.DOTALL), ".tflite"),
    (re.compile(rb".{4}ORTM", re.DOTALL), ".ort"),
    (re.compile(rb".{4}ET1\d", re.DOTALL), ".pte"),
    (re.compile(b"ftrt"), ".engine"),
    # The version of the IR, then the producer's name or the graph.
    (re.compile(rb"\x08[\x03-\x20](\x12[\x01-\x40][ -~]|:[\x80-\xff])"), ".onnx"),
)
_IR = "an OpenVINO IR"
ITS_SOURCE = "give the checkpoint that it was exported from, a .pth or .safetensors file"
_SHOWN = 40
FIRST = 512
"""Bytes that `described` needs."""


def described(start: bytes) -> str:
    """What begins with these bytes, the first `FIRST` of a file."""
    if not start:
        return "an empty file"
    for offset, magic, what, _ in _MAGIC:
        if start.startswith(magic, offset):
            return what
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page, as a server sends with an error"
    if not start.strip(b"\0"):
        return "zeros, as a download leaves that was cut off"
    line = " ".join(start.decode("latin1").split())
    if line.isascii() and line.isprintable():
        return f"text: {line[:_SHOWN]!r}{'…' if len(line) > _SHOWN else ''}"
    return f"{len(start)} bytes or more that start with {start[:8]!r}"


def exported(path: Path, start: bytes = b"") -> str | None:
    """Which format for running a model this is, by its first bytes or its name; None of anything else.

    Such a file was exported from a checkpoint, and is none.
    """
    # By the name first: an .mlmodel begins as an ONNX file may.
    places = (path, *(each for each in path.parents if each.suffix in (".mlpackage", ".mlmodelc", ".aimodel")))
    suffixes = [suffix for place in places for suffix in place.suffixes]
    if (named := next((suffix for suffix in suffixes if suffix in _FORMATS), None)) is not None:
        return _FORMATS[named]
    if (path.suffix == ".xml" and b"<net" in start) or (path.suffix == ".bin" and path.with_suffix(".xml").is_file()):
        return _IR
    return next((_FORMATS[suffix] for pattern, suffix in _EXPORTED if pattern.match(start)), None)


def remedy(start: bytes, otherwise: str) -> str:
    """What to do about a file that begins with these bytes."""
    found = (step for offset, magic, _, step in _MAGIC if start.startswith(magic, offset))
    return next(found, "") or otherwise
