"""Faults in OpenVINO IRs: in the graph (.xml) and in the weights (.bin)."""

import xml.etree.ElementTree as ET
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from export.selftest.faults.fault import Rng, Table, in_file, pick

fault = Table[Path]("openvino", in_file(nullcontext))


@fault("constants", "fp32 openvino", "fp16 openvino")
def last_bit(path: Path, rng: Rng) -> None:
    """The last bit of one weight: at random, of the constants that are weights, in the .bin where they lie."""
    layers = ET.parse(path).getroot().iter("layer")  # noqa: S314 - a file of our own
    found = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    data = pick(rng, [d for d in found if d is not None and d.get("element_type") in ("f32", "f16")])
    width = {"f32": 4, "f16": 2}[data.attrib["element_type"]]
    content = bytearray(path.with_suffix(".bin").read_bytes())
    content[int(data.attrib["offset"]) + width * int(rng.integers(int(data.attrib["size"]) // width))] ^= 1
    path.with_suffix(".bin").write_bytes(content)


@fault("structure", "fp32 openvino", "fp16 openvino")
def pads(path: Path, rng: Rng) -> None:
    """A convolution's padding moved by a pixel in the graph."""
    replaced(path, 'pads_begin="1, 1" pads_end="1, 1"', 'pads_begin="2, 2" pads_end="0, 0"')


@fault("structure", "fp32 openvino", "fp16 openvino")
def softmax(path: Path, rng: Rng) -> None:
    """A softmax over the other axis."""
    replaced(path, '<data axis="-1" />', '<data axis="1" />')


def replaced(path: Path, old: str, new: str) -> None:
    """The first place in the graph that says `old`."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def saved_again(model: Any, path: Path, *, compressed: bool = False) -> None:
    """Write a model that was read from `path`, which it may be reading still, in its place."""
    from runtimes.openvino.package import import_openvino

    other = path.with_name("other.xml")
    import_openvino().save_model(model, other, compress_to_fp16=compressed)
    other.replace(path)
    other.with_suffix(".bin").replace(path.with_suffix(".bin"))


@fault("constants", "fp32 openvino")
def silent_compression(path: Path, rng: Rng) -> None:
    """fp16 weights though float32 was asked for: what `save_model` does unless it is told not to."""
    from runtimes.openvino.package import import_openvino

    model = import_openvino().Core().read_model(path)
    saved_again(model, path, compressed=True)
