"""An ONNX program without its quantizers: floats between its operators, and decoded weights.

A file of integers computes a model only nearly; without the rounding it computes one exactly, or another. Operators on
integers (QLinearConv, ConvInteger …) become those on floats that they stand for. A quantizer whose lowest integer means
zero clips like a ReLU, and tools remove the ReLU that stands before it: after a linear operator one is put back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import UnknownOperation
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Unquantized
from runtimes.onnx.integers import MOVES, moved_constants, name_of, names_in, scale_of_weights

Operands = Mapping[str, str | tuple[str, ...]]

_LINEAR = frozenset({"Add", "BatchNormalization", "Conv", "Gemm", "MatMul", "Sub"})
_OWN = "com.microsoft."
_BETWEEN = {
    "QLinearSigmoid": ("Sigmoid", ("x",)),
    "QLinearLeakyRelu": ("LeakyRelu", ("x",)),
    "QLinearSoftmax": ("Softmax", ("x",)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", ("x",)),
    "QLinearAveragePool": ("AveragePool", ("x",)),
    "QLinearAdd": ("Add", ("a", "b")),
    "QLinearMul": ("Mul", ("a", "b")),
    "QLinearMatMul": ("MatMul", ("a", "b")),
    "QLinearConv": ("Conv", ("x", "w")),
    "QGemm": ("Gemm", ("a", "b")),
}
"""Operators on integers: what they compute between dequantizers and a quantizer, of which operands."""

_INTEGER = {"ConvInteger": ("Conv", "x", "w"), "MatMulInteger": ("MatMul", "a", "b")}
"""Products of integers, which the file scales itself: what they stand for, and the names of the operands."""

_CHANNELS = {"QLinearConv": 0, "QLinearMatMul": -1, "QGemm": -1}
"""Along which axis of its second operand the scales of weights lie."""


def unquantized(program: Program) -> Unquantized:
    """The same program on floats.

    Raises:
        UnknownOperation: integers are computed with, or decoded, as is not foreseen here.
    """
    return _Rewriter(program).result()


class _Rewriter:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._constants = dict(program.constants)
        self._types = program.types()
        self._kept: list[Operation] = []
        self._steps: dict[str, NDArray[np.float64]] = {}
        self._same: dict[str, str] = {}
        self._coded: dict[str, tuple[object, ...]] = {}
        self._maker: dict[str, str] = {}
        self._moved = dict(moved_constants(program))
        self._dynamic = {
            operation.outputs[1][0]: operation.name
            for operation in program.operations
            if operation.kind == "DynamicQuantizeLinear"
        }

    def result(self) -> Unquantized:
        for operation in self._program.operations:
            self._rewrite(operation)
        for name in self._program.outputs:
            if name in self._same:
                self._keep(Operation("Identity", {"x": self._now(name)}, ((name, self._types.get(name)),)))
        program = replace(self._program, operations=tuple(self._kept), constants=self._constants)
        return Unquantized(program, self._steps)

    def _rewrite(self, operation: Operation) -> None:
        kind, given = operation.kind.removeprefix(_OWN), operation.inputs
        if kind == "QuantizeLinear":
            self._quantize(operation.name, self._one(given["x"]), given.get("y_scale"), given.get("y_zero_point"))
        elif kind == "DequantizeLinear":
            axis = self._constants[str(given["axis"])].value if "axis" in given else 1
            assert isinstance(axis, int)
            coded = (name_of(given.get(each)) for each in ("x", "x_scale", "x_zero_point"))
            self._same[operation.name] = self._dequantized(*coded, axis=axis)
        elif kind in _BETWEEN:
            self._between(operation, kind)
        elif kind == "DynamicQuantizeLinear":
            codes, scale, zero = (name for name, _ in operation.outputs)
            self._same[codes] = self._one(given["x"])
            self._coded[codes] = (scale, zero)
        elif kind in _INTEGER:
            self._products(operation, *_INTEGER[kind])
        elif kind == "Mul" and any(name in self._dynamic for name in operation.names()):
            self._same[operation.name] = self._unit()  # of the scales: what they stand for is in the weights
        elif kind == "QLinearConcat":
            parts = list(zip(*[iter(names_in(given["values"]))] * 3, strict=True))
            values = tuple(self._dequantized(*part, axis=0) for part in parts)
            inner = self._inner(operation, "Concat", {"values": values, "axis": given["axis"]})
            self._quantize(operation.name, inner, given["y_scale"], given["y_zero_point"])
        else:
            self._carry(operation)

    def _between(self, operation: Operation, kind: str) -> None:
        floats, names = _BETWEEN[kind]
        given = operation.inputs
        operands: dict[str, str | tuple[str, ...]] = {
            name: self._dequantized(
                *(name_of(given.get(each)) for each in (name, f"{name}_scale", f"{name}_zero_point")),
                axis=0
                if "transb" in given and self._constants[name_of(given["transb"])].value
                else _CHANNELS.get(kind, 0),
            )
            for name in names
        }
        bias = "b" if kind == "QLinearConv" else "c" if kind == "QGemm" else ""
        if bias in given:
            operands[bias] = self._bias(name_of(given[bias]), *(self._number(given[f"{name}_scale"]) for name in names))
        spent = {each for name in (*names, bias, "y", "c") for each in (name, f"{name}_scale", f"{name}_zero_point")}
        spent |= {"opset"}  # QLinearSoftmax says for which it is meant; over its last axis both mean the same
        rest = {key: value for key, value in given.items() if key not in spent and key not in operands}
        if "channels_last" in rest and self._constants[name_of(rest.pop("channels_last"))].value:
            raise UnknownOperation(operation.kind, f"'{operation.name}' takes its channels last")
        inner = self._inner(operation, floats, {**operands, **rest})
        out = "c" if kind in ("QLinearAdd", "QLinearMul") else "y"
        if f"{out}_scale" in given:
            self._quantize(operation.name, inner, given[f"{out}_scale"], given.get(f"{out}_zero_point"))
        else:
            self._same[operation.name] = inner

    def _products(self, operation: Operation, floats: str, x: str, w: str) -> None:
        """Products of integers whose scale the file finds for each image, times constant weights.

        The scale of the weights is where the file multiplies the result by both.
        """
        given = operation.inputs
        codes, weights, offset = name_of(given[x]), name_of(given[w]), name_of(given.get(f"{w}_zero_point"))
        by = self._coded.get(codes)
        if by is None or by[1] != name_of(given.get(f"{x}_zero_point")) or weights not in self._constants:
            raise UnknownOperation(operation.kind, f"'{operation.name}' multiplies other integers than are foreseen")
        unit = self._number(scale_of_weights(self._program, operation, str(by[0])))
        axis = 0 if floats == "Conv" else -1
        operands = {
            x: self._now(codes),
            w: self._decoded(weights, unit, self._number(offset) if offset else None, axis),
        }
        rest = {key: value for key, value in given.items() if not key.endswith("_zero_point") and key not in operands}
        self._same[operation.name] = self._inner(operation, floats, {**operands, **rest})

    def _unit(self) -> str:
        self._constants["1:unit"] = Constant(np.ones((), np.float64), TensorType("fp32", ()))
        return "1:unit"

    def _inner(self, operation: Operation, kind: str, inputs: Operands) -> str:
        """The operator on floats in the place of one on integers, and the name of its result."""
        name = f"{operation.name}:float"
        self._keep(Operation(kind, inputs, ((name, _float(self._types.get(operation.name))),)))
        return name

    def _quantize(self, out: str, x: str, scale: object, zero: object) -> None:
        """The integers `out` are `x` itself from here on."""
        if name_of(scale) not in self._constants:
            raise UnknownOperation(
                "QuantizeLinear", f"'{out}' is quantized by a scale that is computed", got=str(scale)
            )
        lowest, offset = self._lowest(name_of(zero))
        if lowest == offset and self._maker.get(x) in _LINEAR:
            clipped = f"{out}:relu"
            self._keep(Operation("Relu", {"x": x}, ((clipped, _float(self._types.get(out))),)))
            x = clipped
        self._same[out] = x
        self._coded[out] = self._code(name_of(scale), name_of(zero))

    def _dequantized(self, x: str, scale: str, zero: str, *, axis: int) -> str:
        """The floats that the integers `x` stand for."""
        if x in self._constants:
            return self._decoded(x, self._number(scale), self._number(zero) if zero else None, axis)
        if self._coded.get(x) != self._code(scale, zero):
            raise UnknownOperation(
                "DequantizeLinear", f"'{x}' is decoded by another scale than it was quantized by", got=scale
            )
        return self._now(x)

    def _decoded(self, x: str, scale: NDArray[np.float64], zero: NDArray[np.float64] | None, axis: int) -> str:
        stored = self._constants[x].value
        assert isinstance(stored, np.ndarray)
        shape = [1] * stored.ndim
        if scale.size > 1:
            shape[axis] = scale.size
        unit = np.broadcast_to(scale.reshape(shape), stored.shape)
        offset = 0.0 if zero is None else zero.reshape(shape if zero.size > 1 else [1] * stored.ndim)
        return self._hold(f"{x}:decoded", (stored.astype(np.float64) - offset) * unit, unit)

    def _bias(self, name: str, x_scale: NDArray[np.float64], w_scale: NDArray[np.float64]) -> str:
        return self._decoded(name, (x_scale * w_scale).reshape(-1), None, -1)

    def _hold(self, name: str, value: NDArray[np.float64], unit: NDArray[np.float64]) -> str:
        self._constants[name] = Constant(value, TensorType("fp32", value.shape))
        self._steps[name] = unit / 2
        return name

    def _carry(self, operation: Operation) -> None:
        """Anything else, on what its operands are by now."""
        for name in operation.names():
            if operation.kind in MOVES and name in self._moved:
                self._same[name] = self._dequantized(name, *self._moved[name], axis=0)
                self._coded[name] = self._code(*self._moved[name])
        reads = [name for name in operation.names() if name in self._coded]
        if reads and operation.kind not in MOVES:
            raise UnknownOperation(operation.kind, f"'{operation.name}' computes with integers", got=operation.kind)
        codes = {self._coded[name] for name in reads}
        joined = operation.kind == "Concat" and any(name not in self._coded for name in self._varying(operation))
        if len(codes) > 1 or (codes and joined):
            raise UnknownOperation(operation.kind, f"'{operation.name}' joins integers of several scales")
        outputs = operation.outputs
        if codes:
            outputs = tuple((name, _float(declared)) for name, declared in outputs)
            self._coded.update((name, next(iter(codes))) for name, _ in outputs)
        inputs = {
            key: tuple(map(self._now, value)) if isinstance(value, tuple) else self._now(value)
            for key, value in operation.inputs.items()
        }
        self._keep(Operation(operation.kind, inputs, outputs))

    def _varying(self, operation: Operation) -> Iterator[str]:
        return (name for name in operation.names() if name not in self._constants or name in self._moved)

    def _keep(self, operation: Operation) -> None:
        self._kept.append(operation)
        moved = operation.kind in MOVES
        source = next(self._varying(operation), "")
        for name, _ in operation.outputs:
            self._maker[name] = self._maker.get(source, "") if moved else operation.kind

    def _now(self, name: str) -> str:
        return self._same.get(name, name)

    def _one(self, name: object) -> str:
        return self._now(name_of(name))

    def _number(self, name: object) -> NDArray[np.float64]:
        held = self._constants.get(name_of(name))
        if held is None or not isinstance(held.value, np.ndarray):
            raise UnknownOperation("DequantizeLinear", f"a scale is computed: '{name_of(name)}'", got=name_of(name))
        return held.value.astype(np.float64)

    def _lowest(self, zero: str) -> tuple[int, int]:
        """The lowest integer, and the one that means zero."""
        if not zero:
            return 0, 0
        held = self._constants.get(zero)
        if held is None or not isinstance(held.value, np.ndarray) or held.value.size != 1:
            raise UnknownOperation("QuantizeLinear", f"'{zero}' is no constant zero point of a tensor", got=zero)
        return int(np.iinfo(held.value.dtype).min), int(held.value.reshape(()))

    def _code(self, scale: str, zero: str) -> tuple[object, ...]:
        offset = self._number(zero) if zero else np.zeros(1)
        return tuple(self._number(scale).reshape(-1).tolist()), tuple(offset.reshape(-1).tolist())


def _float(declared: TensorType | None) -> TensorType | None:
    return None if declared is None else TensorType("fp32", declared.shape)
