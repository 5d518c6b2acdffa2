"""Compressed constants decode to what coremltools itself makes of them, bit for bit: from files that it wrote, and
operation by operation on random operands."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from efficientvit.deploy.compression import palette
from efficientvit.errors import BrokenArtifact
from export.targets.coreml.package import write_model
from runtimes.coreml.constexpr import decode
from runtimes.coreml.mlpackage import load_model, load_program

Array = NDArray[Any]

SHAPES = {"a": (64, 3, 3, 3), "b": (96, 64, 1, 1), "c": (96, 32, 3, 3), "d": (32, 96)}
LEAST_ELEMENTS = 500


def _weight(name: str) -> Array:
    return np.random.default_rng(list(name.encode())).standard_normal(SHAPES[name]).astype(np.float32)


def _of_few_vectors(name: str) -> Array:
    """In vectors of four along the first axis there are thirteen different ones."""
    shape = SHAPES[name]
    rng = np.random.default_rng(list(name.encode()))
    book = rng.standard_normal((13, 4)).astype(np.float32)
    chosen = book[rng.integers(0, 13, (shape[0] // 4, *shape[1:]))]
    return np.moveaxis(chosen, -1, 1).reshape(shape)


Weight = Callable[[str], Array]


@pytest.fixture(scope="module")
def plain(save: Any) -> Callable[[Weight, int, str], Path]:
    """The package without compression, by weights, iOS and precision; each made once."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its name in every example

    @cache
    def made(weight: Weight, ios: int, precision: str) -> Path:
        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 6, 6))], opset_version=ct.target[f"iOS{ios}"])  # type: ignore[untyped-decorator]
        def program(x: Any) -> Any:
            y = mb.relu(x=mb.conv(x=x, weight=weight("a")))
            y = mb.relu(x=mb.conv(x=y, weight=weight("b")))
            y = mb.reduce_mean(x=mb.conv(x=y, weight=weight("c"), groups=3), axes=[2, 3])
            return mb.linear(x=y, weight=weight("d"))

        path: Path = save(program, ios, compute_precision=ct.precision[precision])
        return path

    return made


Step = Callable[[Any], Any]


def _linear(*, joint: bool = False, **options: Any) -> Step:
    from coremltools.optimize import coreml as optimize

    config = optimize.OpLinearQuantizerConfig(weight_threshold=LEAST_ELEMENTS, **options)
    return lambda model: optimize.linear_quantize_weights(model, optimize.OptimizationConfig(config), joint)


def _palette(*, joint: bool = False, **options: Any) -> Step:
    from coremltools.optimize import coreml as optimize

    config = optimize.OpPalettizerConfig(weight_threshold=LEAST_ELEMENTS, **options)
    return lambda model: optimize.palettize_weights(model, optimize.OptimizationConfig(config), joint)


def _our_palette(bits: int) -> Step:
    """As the stage `compress` has coremltools make it."""

    def table(weight: Array) -> tuple[Array, Array]:
        entries, indices = palette(weight.astype(np.float16), bits)
        return entries.astype(weight.dtype), indices

    return _palette(mode="custom", lut_function=table)


def _sparse(**options: Any) -> Step:
    from coremltools.optimize import coreml as optimize

    config = optimize.OpMagnitudePrunerConfig(weight_threshold=LEAST_ELEMENTS, **options)
    return lambda model: optimize.prune_weights(model, optimize.OptimizationConfig(config))


@dataclass(frozen=True)
class Form:
    """A way to compress: its steps, the operations that they leave by iOS, and how many weights it reaches.

    `whole`: coremltools' `decompress_weights` can undo it. It fails on tables that are compressed themselves.
    `wide`: tried in float32 too, where decoding rounds in other places.
    """

    steps: list[Callable[[], Step]]
    kinds: Mapping[int, tuple[str, ...]]
    weights: int = 4
    whole: bool = True
    wide: bool = False
    source: Weight = _weight


AFFINE, BLOCKS = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
TABLE, SPARSE = "constexpr_lut_to_dense", "constexpr_sparse_to_dense"
SPARSE_TABLE, SPARSE_BLOCKS = "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale"
QUANTIZED = {16: (AFFINE,), 18: (BLOCKS,)}
HALF_SPARSE: dict[str, Any] = {"target_sparsity": 0.5}
PER_TENSOR: dict[str, Any] = {"mode": "linear_symmetric", "dtype": "int8", "granularity": "per_tensor"}

FORMS: dict[str, Form] = {
    **{
        f"{mode}-{dtype}-{granularity}": Form(
            [partial(_linear, mode=mode, dtype=dtype, granularity=granularity)],
            QUANTIZED,
            wide=mode == "linear",
        )
        for mode, dtype, granularity in (
            ("linear_symmetric", "int8", "per_channel"),
            ("linear", "int8", "per_channel"),
            ("linear", "uint8", "per_channel"),
            ("linear_symmetric", "uint8", "per_tensor"),
            ("linear_symmetric", "int8", "per_tensor"),
        )
    },
    **{
        # The first convolution has three input channels, which no block of 32 divides.
        f"blocks-{mode}-{dtype}": Form(
            [partial(_linear, mode=mode, dtype=dtype, granularity="per_block", block_size=32)],
            {18: (BLOCKS,)},
            weights=3,
            wide=dtype == "int4",
        )
        for mode in ("linear_symmetric", "linear")
        for dtype in ("int4", "uint4", "int8")
    },
    **{
        f"palette-{bits}": Form(
            [partial(_palette, mode="uniform", nbits=bits)],
            {18: (TABLE,)},
        )
        for bits in (1, 2, 3, 4, 6, 8)
    },
    **{f"our-palette-{bits}": Form([partial(_our_palette, bits)], {16: (TABLE,), 18: (TABLE,)}) for bits in (4, 6, 8)},
    "grouped-channels": Form(
        [partial(_palette, mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=16)], {18: (TABLE,)}
    ),
    "grouped-input-channels": Form(
        [partial(_palette, mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=16, channel_axis=1)],
        {18: (TABLE,)},
        weights=3,
    ),
    "vectors": Form([partial(_palette, mode="unique", cluster_dim=4)], {18: (TABLE,)}, source=_of_few_vectors),
    "palette-and-scales": Form(
        [partial(_palette, mode="uniform", nbits=4, enable_per_channel_scale=True)],
        {18: (BLOCKS, TABLE)},
        whole=False,
        wide=True,
    ),
    "palette-of-int8": Form(
        [partial(_palette, mode="uniform", nbits=4), partial(_linear, joint=True, **PER_TENSOR)],
        {18: (BLOCKS, TABLE)},
        whole=False,
    ),
    "sparse": Form([partial(_sparse, **HALF_SPARSE)], {16: (SPARSE,), 18: (SPARSE,)}),
    # The first convolution is left out again.
    "sparse-three-of-four": Form([partial(_sparse, n_m_ratio=(3, 4))], {16: (SPARSE,), 18: (SPARSE,)}, weights=3),
    "sparse-palette": Form(
        [partial(_sparse, **HALF_SPARSE), partial(_palette, mode="uniform", nbits=4, joint=True)],
        {18: (SPARSE_TABLE, SPARSE)},
    ),
    "sparse-int8": Form(
        [partial(_sparse, **HALF_SPARSE), partial(_linear, mode="linear_symmetric", dtype="int8", joint=True)],
        {18: (SPARSE_BLOCKS, SPARSE)},
    ),
    "sparse-uint8-with-offset": Form(
        [partial(_sparse, **HALF_SPARSE), partial(_linear, mode="linear", dtype="uint8", joint=True)],
        {18: (SPARSE_BLOCKS, SPARSE)},
        wide=True,
    ),
    "sparse-blocks-of-int4": Form(
        [
            partial(_sparse, **HALF_SPARSE),
            partial(_linear, dtype="int4", granularity="per_block", block_size=32, joint=True),
        ],
        {18: (SPARSE_BLOCKS, SPARSE)},
    ),
    "sparse-palette-of-int8": Form(
        [
            partial(_sparse, **HALF_SPARSE),
            partial(_palette, mode="uniform", nbits=4, joint=True),
            partial(_linear, joint=True, **PER_TENSOR),
        ],
        {18: (BLOCKS, SPARSE_TABLE, SPARSE)},
        whole=False,
    ),
}
CASES = [
    pytest.param(form, ios, precision, id=f"{name}-ios{ios}-{precision.lower()}")
    for name, form in FORMS.items()
    for ios in form.kinds
    for precision in (("FLOAT16", "FLOAT32") if form.wide else ("FLOAT16",))
]


def _decoded(operation: Any) -> tuple[Array, ...]:
    """By coremltools. Where its own decoding does not look through another operation's output, step by step."""

    def value(var: Any) -> Any:
        if var is None or var.val is not None:
            return None if var is None else var.val
        return _decoded(var.op)[var.op.outputs.index(var)]

    given = {key: value(operation.inputs.get(key)) for key in operation.input_spec.input_types}
    result = operation.decompress(**given)
    return result if isinstance(result, tuple) else (result,)


def _same_bits(mine: Any, theirs: Any) -> bool:
    same: bool = mine.shape == theirs.shape and mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()
    return same


@pytest.mark.parametrize(("form", "ios", "precision"), CASES)
def test_a_file_decodes_to_what_coremltools_decodes(
    form: Form, ios: int, precision: str, plain: Any, read_by_coremltools: Any, tmp_path: Path
) -> None:
    import coremltools as ct

    model = ct.models.MLModel(str(plain(form.source, ios, precision)), skip_model_load=True)
    for step in form.steps:
        model = step()(model)
    path = tmp_path / "small.mlpackage"
    model.save(str(path))
    constants = load_program(path).constants
    compared = set()
    kinds = set()
    for operation in read_by_coremltools(path).operations:
        if not operation.op_type.startswith("constexpr_"):
            continue
        kinds.add(operation.op_type)
        for output, theirs in zip(operation.outputs, _decoded(operation), strict=True):
            if output.name in constants:  # not an intermediate result of one that is decoded in two steps
                assert constants[output.name].stored == operation.op_type
                assert _same_bits(constants[output.name].value, theirs), output.name
                compared.add(output.name)
    assert kinds == set(form.kinds[ios])
    assert compared == {name for name, constant in constants.items() if constant.stored != "const"}
    assert len(compared) == form.weights
    assert all(np.count_nonzero(constants[name].value) for name in compared)
    if form.whole:
        saved = ct.models.MLModel(str(path), skip_model_load=True)
        ct.optimize.coreml.decompress_weights(saved).save(str(tmp_path / "large.mlpackage"))
        plain_again = load_program(tmp_path / "large.mlpackage").constants
        for name in compared:
            assert plain_again[name].stored == "const"
            assert _same_bits(plain_again[name].value, constants[name].value), name


def _words(count: int, greatest: int, rng: np.random.Generator) -> Array:
    return rng.integers(0, greatest + 1, count).astype(np.uint8)


@pytest.fixture(scope="module")
def handmade(save: Any) -> Callable[..., Path]:
    """A package in which one compressed constant, of operands given here, is added to the input."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - its name in every example

    def made(kind: str, shape: tuple[int, ...], ios: int, operands: Mapping[str, Any], rest: str = "") -> Path:
        @mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=ct.target[f"iOS{ios}"])  # type: ignore[untyped-decorator]
        def program(x: Any) -> Any:
            y = getattr(mb, kind)(**operands, name="small")
            if rest:
                mask, values = y
                y = getattr(mb, rest)(nonzero_data=values, mask=mask, name="large")
            return mb.add(x=x, y=mb.cast(x=y, dtype="fp32"))

        path: Path = save(program, ios, pass_pipeline=ct.PassPipeline.EMPTY)
        return path

    return made


def _mil(bits: int, values: Array) -> Array:
    """As the type of coremltools that is written in so many bits."""
    from coremltools.converters.mil.mil.types.type_mapping import string_to_nptype

    return values.astype(string_to_nptype(f"uint{bits}"))


@pytest.mark.parametrize("vector", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_indices_of_any_width_are_unpacked(bits: int, vector: int, handmade: Any, read_by_coremltools: Any) -> None:
    """An odd number of them, so that none of the narrow ones fills its last byte; three tables."""
    rng = np.random.default_rng(bits)
    indices = _words(3 * 5 * 7, 2**bits - 1, rng).reshape(3, 5, 7)
    table = rng.standard_normal((3, 1, 1, 2**bits, vector)).astype(np.float32)
    operands = {"indices": _mil(bits, indices), "lut": table, "vector_axis": np.int32(1)}
    path = handmade("constexpr_lut_to_dense", (3, 5 * vector, 7), 18, operands)
    (operation,) = [op for op in read_by_coremltools(path).operations if op.op_type == "constexpr_lut_to_dense"]
    mine = np.asarray(load_program(path).constants["small"].value)
    assert np.array_equal(mine[2, ::vector, 6], table[2, 0, 0, indices[2, :, 6], 0])
    assert _same_bits(mine, operation.materialized_val_inference())


def test_vectors_of_a_sparse_tensor_are_filled_in(handmade: Any, read_by_coremltools: Any) -> None:
    """coremltools' palettizer cannot make them of a sparse tensor, but its program can hold them."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (3, 5)).astype(np.uint8)
    operands = {
        "indices_mask": _mil(1, mask),
        "indices_nonzero_data": _mil(2, _words(int(mask.sum()), 3, rng)),
        "lut": rng.standard_normal((1, 1, 4, 3)).astype(np.float16),
        "vector_axis": np.int32(0),
    }
    path = handmade("constexpr_lut_to_sparse", (9, 5), 18, operands, "constexpr_sparse_to_dense")
    (operation,) = [op for op in read_by_coremltools(path).operations if op.op_type == "constexpr_sparse_to_dense"]
    mine = load_program(path).constants["large"].value
    assert np.array_equal(np.asarray(mine)[::3] != 0, mask != 0)
    assert _same_bits(mine, operation.materialized_val_inference())


def test_a_constant_is_cast(handmade: Any) -> None:
    values = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float16)
    path = handmade("constexpr_cast", (3, 5), 16, {"source_val": values, "output_dtype": "fp32"})
    assert _same_bits(load_program(path).constants["small"].value, values.astype(np.float32))


def _class(kind: str, ios: int) -> Any:
    import coremltools as ct
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return SSAOpRegistry.core_ops[kind][ct.target[f"iOS{ios}"]]


class Draw:
    """Random operands of one example."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.rng = np.random.default_rng(self.integer(0, 2**32 - 1))

    def integer(self, least: int, greatest: int) -> int:
        return self._data.draw(st.integers(least, greatest))

    def one_of(self, *choices: Any) -> Any:
        return self._data.draw(st.sampled_from(choices))

    def blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A shape, and how many blocks there are along each of its axes."""
        counts = tuple(self.integer(1, 3) for _ in range(self.integer(1, 3)))
        return tuple(count * self.integer(1, 3) for count in counts), counts

    def floats(self, *shape: int, dtype: Any = np.float32) -> Array:
        return np.asarray(self.rng.standard_normal(shape), dtype)

    def integers(self, *shape: int) -> Array:
        limits = np.iinfo(self.one_of(np.int8, np.uint8))
        return self.rng.integers(limits.min, limits.max, shape, limits.dtype, endpoint=True)

    def mask(self, shape: tuple[int, ...]) -> Array:
        return self.rng.integers(0, 2, shape).astype(np.uint8)

    def float_type(self) -> Any:
        return self.one_of(np.float16, np.float32)


def _affine(draw: Draw) -> tuple[int, dict[str, Any]]:
    shape, _ = draw.blocks()
    axis = draw.integer(-len(shape), len(shape) - 1)
    size = draw.one_of((), (shape[axis],))
    data = draw.integers(*shape)
    points = draw.one_of(draw.rng.integers(0, 100, size).astype(data.dtype), 30 * draw.floats(*size))
    scale = draw.floats(*size, dtype=draw.float_type())
    return 16, {"quantized_data": data, "zero_point": points, "scale": scale, "axis": np.int32(axis)}


def _shift_scale(draw: Draw) -> tuple[int, dict[str, Any]]:
    shape, counts = draw.blocks()
    data = draw.integers(*shape)
    offset = draw.one_of(None, draw.rng.integers(0, 100, counts).astype(data.dtype))
    return 18, {"data": data, "scale": draw.floats(*counts, dtype=draw.float_type()), "offset": offset}


def _packed_table(draw: Draw) -> tuple[int, dict[str, Any]]:
    shape, _ = draw.blocks()
    bits = draw.one_of(1, 2, 4, 6, 8)
    packed = draw.rng.integers(0, 256, -(-bits * int(np.prod(shape)) // 8)).astype(np.uint8)
    return 16, {"indices": packed, "lut": draw.floats(2**bits), "shape": np.array(shape, np.uint32)}


def _table(draw: Draw) -> tuple[int, dict[str, Any]]:
    shape, counts = draw.blocks()
    bits, vector = draw.one_of(1, 2, 3, 4, 6, 8), draw.integer(1, 3)
    axis = np.int32(draw.integer(0, len(shape) - 1)) if vector > 1 else draw.one_of(None, np.int32(0))
    indices = draw.rng.integers(0, 2**bits, shape).astype(np.uint8)
    return 18, {"indices": indices, "lut": draw.floats(*counts, 2**bits, vector), "vector_axis": axis}


def _packed_sparse(draw: Draw) -> tuple[int, dict[str, Any]]:
    shape, _ = draw.blocks()
    mask = draw.mask(shape)
    values = draw.floats(int(mask.sum()), dtype=draw.float_type())
    packed = np.packbits(mask, bitorder="little")
    return 16, {"nonzero_data": values, "mask": packed, "shape": np.array(shape, np.uint32)}


def _sparse_dense(draw: Draw) -> tuple[int, dict[str, Any]]:
    mask = draw.mask(draw.blocks()[0])
    return 18, {"nonzero_data": draw.floats(int(mask.sum()), dtype=draw.float_type()), "mask": mask}


def _sparse_table(draw: Draw) -> tuple[int, dict[str, Any]]:
    ios, operands = _table(draw)
    mask = draw.mask(operands["indices"].shape)
    kept = operands.pop("indices")[mask != 0]
    return ios, {"indices_mask": mask, "indices_nonzero_data": kept, **operands}


def _sparse_shift_scale(draw: Draw) -> tuple[int, dict[str, Any]]:
    ios, operands = _shift_scale(draw)
    mask = draw.mask(operands["data"].shape)
    kept = operands.pop("data")[mask != 0]
    return ios, {"data_mask": mask, "nonzero_data": kept, **operands}


OPERATIONS: tuple[tuple[str, Callable[[Draw], tuple[int, dict[str, Any]]]], ...] = (
    (AFFINE, _affine),
    (BLOCKS, _shift_scale),
    (TABLE, _packed_table),
    (TABLE, _table),
    (SPARSE, _packed_sparse),
    (SPARSE, _sparse_dense),
    (SPARSE_TABLE, _sparse_table),
    (SPARSE_BLOCKS, _sparse_shift_scale),
)


@pytest.mark.parametrize(("kind", "drawn"), OPERATIONS, ids=[drawn.__name__.strip("_") for _, drawn in OPERATIONS])
@settings(max_examples=100)
@given(data=st.data())
def test_any_operands_decode_as_coremltools_decodes_them(
    kind: str, drawn: Callable[[Draw], tuple[int, dict[str, Any]]], data: st.DataObject
) -> None:
    ios, operands = drawn(Draw(data))
    theirs = _class(kind, ios).decompress(**operands)
    mine = decode(kind, "w", {key: value for key, value in operands.items() if value is not None})
    for one, other in zip(mine, theirs if isinstance(theirs, tuple) else (theirs,), strict=True):
        assert _same_bits(np.ascontiguousarray(one), np.ascontiguousarray(other))


def test_every_form_that_is_known_is_compared() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    known = {kind for kind in SSAOpRegistry.core_ops if kind.startswith("constexpr_")}
    assert known == {kind for kind, _ in OPERATIONS} | {"constexpr_cast"}


BYTES, FLOATS = np.zeros(4, np.uint8), np.ones(4, np.float32)
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "index": (TABLE, {"indices": BYTES + 4, "lut": np.ones((1, 4, 1), np.float32)}, "index 4 in a table of 4"),
    "entries": (TABLE, {"indices": BYTES, "lut": np.ones((1, 3, 1), np.float32)}, "a table of 3 entries"),
    "one entry": (TABLE, {"indices": BYTES, "lut": np.ones((1, 1, 1), np.float32)}, "a table of 1 entries"),
    "axes": (TABLE, {"indices": BYTES, "lut": np.ones((4, 1), np.float32)}, "tables of 2 axes for indices of 1"),
    "tables": (TABLE, {"indices": BYTES, "lut": np.ones((3, 2, 1), np.float32)}, "3 tables over 4"),
    "vectors": (TABLE, {"indices": BYTES, "lut": np.ones((1, 2, 2), np.float32)}, "vectors of 2 without an axis"),
    "indices": (TABLE, {"indices": BYTES, "lut": FLOATS, "shape": np.array([3])}, "4 bytes of 2-bit indices for 3"),
    "mask": (
        SPARSE,
        {"nonzero_data": FLOATS, "mask": BYTES + 255, "shape": np.array([40])},
        "a mask of 4 bytes for 40",
    ),
    "values": (SPARSE, {"nonzero_data": FLOATS, "mask": np.ones(5, np.uint8)}, "4 values for a mask of 5"),
    "blocks": (BLOCKS, {"data": BYTES, "scale": FLOATS[:3]}, "3 blocks over 4"),
    "block axes": (BLOCKS, {"data": BYTES, "scale": np.ones((1, 4), np.float32)}, "2 axes of blocks over 1"),
    "scale": (BLOCKS, {"data": BYTES, "scale": np.ones(4, np.int32)}, "a scale in int32"),
    "per channel": (
        AFFINE,
        {"quantized_data": BYTES, "zero_point": BYTES, "scale": FLOATS[:3], "axis": 0},
        "reshape",
    ),
    "cast": ("constexpr_cast", {"source_val": FLOATS.astype(np.float16), "output_dtype": "fp64"}, "a cast to fp64"),
}


@pytest.mark.parametrize(("kind", "operands", "named"), REFUSED.values(), ids=REFUSED.keys())
def test_operands_that_contradict_each_other_are_refused_by_name(
    kind: str, operands: dict[str, Any], named: str
) -> None:
    with pytest.raises(BrokenArtifact, match="constant 'w' cannot be decoded") as caught:
        decode(kind, "w", operands)
    assert str(caught.value.got).startswith(f"{kind}: ")
    assert named in str(caught.value.got)


@pytest.mark.parametrize(
    ("kind", "operands"),
    [
        ("constexpr_nf4", {"indices": BYTES}),
        (TABLE, {"indices": BYTES}),
        (BLOCKS, {"data": BYTES, "scale": FLOATS, "zero_point": BYTES}),
    ],
    ids=["kind", "lacking", "unknown"],
)
def test_an_operation_or_operand_that_is_not_known_is_refused_by_name(kind: str, operands: dict[str, Any]) -> None:
    with pytest.raises(BrokenArtifact, match="constant 'w' is compressed in an unsupported way") as caught:
        decode(kind, "w", operands)
    assert str(caught.value.got) == f"{kind} of {', '.join(sorted(operands))}"


@pytest.fixture
def spoiled(handmade: Any, tmp_path: Path) -> Callable[[Callable[[Any], object]], Path]:
    """A package of one table, its block of operations changed."""
    table = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    operands = {"indices": _mil(2, np.array([[0, 1, 2], [3, 2, 1]])), "lut": table}

    def changed(plant: Callable[[Any], object]) -> Path:
        source = handmade("constexpr_lut_to_dense", (2, 3), 18, operands)
        path = Path(shutil.copytree(source, tmp_path / "spoiled.mlpackage"))
        model = load_model(path)
        (function,) = model.mlProgram.functions.values()
        plant(function.block_specializations[function.opset])
        write_model(path, model)
        return path

    return changed


def _operation(block: Any, kind: str) -> Any:
    (found,) = [operation for operation in block.operations if operation.type == kind]
    return found


def test_a_healthy_table_is_read(spoiled: Any) -> None:
    constant = load_program(spoiled(lambda block: None)).constants["small"]
    assert np.array_equal(constant.value, np.array([[0, 1, 2], [3, 2, 1]], np.float32))
    assert constant.stored == TABLE


def test_a_shape_other_than_the_declared_one_is_refused(spoiled: Any) -> None:
    def plant(block: Any) -> None:
        _operation(block, TABLE).outputs[0].type.tensorType.dimensions[1].constant.size = 2

    with pytest.raises(BrokenArtifact, match=r"(?s)'small' decodes to fp32 \(2, 3\), not fp32 \(2, 2\)"):
        load_program(spoiled(plant))


def test_a_type_other_than_the_declared_one_is_refused(spoiled: Any) -> None:
    def plant(block: Any) -> None:
        _operation(block, TABLE).outputs[0].type.tensorType.dataType = 10  # FLOAT16

    with pytest.raises(BrokenArtifact, match=r"(?s)'small' decodes to fp32 \(2, 3\), not fp16 \(2, 3\)"):
        load_program(spoiled(plant))


def test_a_table_that_is_computed_is_refused(spoiled: Any) -> None:
    def plant(block: Any) -> None:
        _operation(block, TABLE).inputs["lut"].arguments[0].name = "x"

    with pytest.raises(BrokenArtifact, match=f"(?s){TABLE} 'small' reads 'x', which is no constant"):
        load_program(spoiled(plant))


def test_another_number_of_outputs_is_refused(spoiled: Any) -> None:
    def plant(block: Any) -> None:
        operation = _operation(block, TABLE)
        operation.outputs.add().CopyFrom(operation.outputs[0])
        operation.outputs[1].name = "mask"

    with pytest.raises(BrokenArtifact, match=f"(?s){TABLE} 'small' has 2 outputs, not 1"):
        load_program(spoiled(plant))
