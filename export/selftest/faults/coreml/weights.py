"""Faults in the bytes of a Core ML package's weights."""

import numpy as np

from export.selftest.faults.coreml.package import ALIGNMENT, RECORD, Package, opened
from export.selftest.faults.fault import NUMBERS, Rng, Table, in_file, next_up, one_changed, pick

fault = Table("coreml", in_file(opened), "fp16 coreml")


@fault("constants")
@fault("constants", "fp32 coreml", "int8 compress", rare=True)
def last_bit(package: Package, rng: Rng) -> None:
    """One weight off by a unit in the last place."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "weight" in name])
    blob.values = one_changed(blob.values, rng, next_up)


@fault("constants", also=(*NUMBERS, "labels"))
def flipped_byte(package: Package, rng: Rng) -> None:
    """A bit anywhere in the data of a tensor."""
    blob = pick(rng, list(package.blobs().values()))
    package.weights[blob.start + int(rng.integers(blob.size))] ^= 1 << int(rng.integers(8))


@fault("constants", also=NUMBERS, rare=True)
def subnormals_flushed(package: Package, rng: Rng) -> None:
    """Small fp16 weights flushed to zero, as some converters do."""
    changed = 0
    for blob in package.blobs().values():
        values = blob.values
        small = (np.abs(values) < 2.0**-12) & (values != 0)
        changed += int(small.sum())
        values[small] = 0
        blob.values = values
    assert changed


@fault("constants", also=NUMBERS)
def scaled_weight(package: Package, rng: Rng) -> None:
    """A weight tensor off by a thousandth to two hundredths."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "expand_weight" in name])
    blob.values = blob.values * (1 + rng.uniform(0.001, 0.02))


@fault("constants", "fp32 coreml", also=NUMBERS, rare=True)
def zeroed_bias(package: Package, rng: Rng) -> None:
    """A convolution without its bias."""
    blob = pick(rng, [blob for name, blob in package.blobs().items() if "project_bias" in name])
    blob.values = blob.values * 0


def _two_heads(package: Package, rng: Rng) -> tuple[str, str]:
    """The biases of two heads of one attention."""
    found = sorted(name for name in package.blobs() if "mixer" in name and "_bias_0_" in name and "_q_" not in name)
    first = pick(rng, [name for name in found if "_v_" not in name])
    return first, first.replace("_bias_0_", f"_bias_{rng.integers(1, 4)}_")


@fault("constants", also=NUMBERS)
def swapped_offsets(package: Package, rng: Rng) -> None:
    """Two heads' attention biases by each other's offset in the protobuf."""
    one, other = (package.value(name).blobFileValue for name in _two_heads(package, rng))
    one.offset, other.offset = other.offset, one.offset


@fault("constants", also=NUMBERS)
def swapped_bytes(package: Package, rng: Rng) -> None:
    """The same by the bytes in the weights' file."""
    one, other = (package.blobs()[name] for name in _two_heads(package, rng))
    one.values, other.values = other.values, one.values


@fault("structure", also=("precision",))
def swapped_names(package: Package, rng: Rng) -> None:
    """The same by the wires: constants and names are right, only the graph is wrong."""
    one, other = _two_heads(package, rng)
    package.hoist(one, other)
    package.rewire(one, "held")
    package.rewire(other, one)
    package.rewire("held", other)


def _recorded(package: Package, rng: Rng, **changed: int) -> None:
    """A record with other contents."""
    blob = pick(rng, list(package.blobs().values()))
    fields = dict(
        zip(
            ("sentinel", "dtype", "size", "start", "padding"),
            RECORD.unpack_from(package.weights, blob.record),
            strict=True,
        )
    )
    for key, by in changed.items():
        fields[key] += by
    RECORD.pack_into(package.weights, blob.record, *fields.values())


@fault("interface")
def broken_sentinel(package: Package, rng: Rng) -> None:
    """A record of the weights without its mark."""
    _recorded(package, rng, sentinel=-int(rng.integers(1, 256)))


@fault("interface")
def other_dtype(package: Package, rng: Rng) -> None:
    """fp16 data declared fp32."""
    _recorded(package, rng, dtype=1)


@fault("interface", rare=True)
def other_size(package: Package, rng: Rng) -> None:
    """A record that says another size than its tensor has."""
    _recorded(package, rng, size=-2)


@fault("constants", also=NUMBERS, rare=True)
def shifted_data(package: Package, rng: Rng) -> None:
    """A record that leads 64 bytes too far, within the file still."""
    name = pick(rng, [name for name, blob in package.blobs().items() if "stem" in name and "weight" in name])
    blob = package.blobs()[name]
    sentinel, dtype, size, start, padding = RECORD.unpack_from(package.weights, blob.record)
    RECORD.pack_into(package.weights, blob.record, sentinel, dtype, size, start + ALIGNMENT, padding)


@fault("interface")
def shifted_offset(package: Package, rng: Rng) -> None:
    """An offset in the protobuf that leads to no record."""
    value = package.value(pick(rng, list(package.blobs())))
    value.blobFileValue.offset += ALIGNMENT


@fault("interface")
def other_weights_file(package: Package, rng: Rng) -> None:
    """Weights that lie outside of the package, where a device won't find them."""
    value = package.value(pick(rng, list(package.blobs())))
    elsewhere = package.path.parent / "elsewhere.bin"
    elsewhere.write_bytes(package.weights)
    value.blobFileValue.fileName = "@model_path/../../../elsewhere.bin"
