"""Random pairs of small programs, equal and unequal by construction: no wrong answer.

300 of each in the suite; `PAIRS=10000 pytest tests/runtimes/evaluator/field/test_random_programs.py` for more.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.tensor import Field

RESIDUES = Residues()
SIDE = 4
PAIRS = int(os.environ.get("PAIRS", "300"))


@dataclass(frozen=True)
class Op:
    """One operation of a (1, SIDE, SIDE) tensor that loses nothing. `way`: which of its spellings is run."""

    kind: str
    constant: tuple[float, ...] = ()
    axis: int = 1
    inner: "tuple[Op, ...]" = ()
    way: int = 0


def square(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(SIDE, SIDE)


def run(ops: tuple[Op, ...], x: Tensor) -> Tensor:
    for op in ops:
        x = WAYS[op.kind][op.way % len(WAYS[op.kind])](op, x)
    return x


def _parts(x: Tensor) -> Tensor:
    return torch.cat([x[:, 1:], x[:, :1]], 1)[:, [3, 0, 1, 2]]


WAYS = {
    "left": (
        lambda op, x: square(op.constant) @ x,
        lambda op, x: (x.mT @ square(op.constant).T).mT,
        lambda op, x: torch.nn.functional.conv2d(x[..., None], square(op.constant)[:, :, None, None])[..., 0],
        lambda op, x: torch.cat([row[None] @ x for row in square(op.constant)], 1),
    ),
    "right": (
        lambda op, x: x @ square(op.constant),
        lambda op, x: torch.nn.functional.linear(x, square(op.constant).T),
        lambda op, x: _parts(x) @ square(op.constant),
    ),
    "bias": (
        lambda op, x: x + square(op.constant),
        lambda op, x: x - (-square(op.constant)),
        lambda op, x: (x * 2 + square(op.constant) + square(op.constant)) * 0.5,
    ),
    "scale": (
        lambda op, x: x * op.constant[0],
        lambda op, x: x / (1 / op.constant[0]),
        lambda op, x: (op.constant[0] * torch.eye(SIDE, dtype=torch.float64)) @ x,
    ),
    "relu": (
        lambda _, x: x.relu(),
        lambda _, x: torch.maximum(x, torch.zeros(())),
        lambda _, x: x.mT.clamp(0, float("inf")).mT,
        lambda _, x: torch.cat([part.relu() for part in x.split(2, 1)], 1),
    ),
    "sigmoid": (lambda _, x: x.sigmoid(), lambda _, x: x.reshape(1, -1).sigmoid().reshape(1, SIDE, SIDE)),
    "tanh": (lambda _, x: x.tanh(), lambda _, x: x.mT.tanh().mT),
    "softmax": (
        lambda op, x: x.softmax(op.axis),
        lambda op, x: (x + 5).softmax(op.axis),
        lambda op, x: x.mT.softmax(3 - op.axis).mT,
        lambda op, x: _spelled(x, op.axis),
    ),
    "around the mean": (
        lambda op, x: x + x.mean(op.axis, keepdim=True),
        lambda op, x: x.sum(op.axis, keepdim=True) * 0.25 + x,
    ),
    "residual": (
        lambda op, x: x + run(op.inner, x),
        lambda op, x: run(op.inner, x) + x,
    ),
}  # fmt: skip


def _spelled(x: Tensor, axis: int) -> Tensor:
    raised = (x - x.amax(axis, keepdim=True)).exp()
    return raised / raised.sum(axis, keepdim=True)


def _ops(depth: int) -> st.SearchStrategy[Op]:
    numbers = st.integers(-3, 3).map(float)
    square_of = st.lists(numbers, min_size=SIDE**2, max_size=SIDE**2).map(tuple)
    triangle = square_of.map(lambda v: tuple((np.triu(np.reshape(v, (SIDE, SIDE)), 1) + np.eye(SIDE)).reshape(-1)))
    axis, way = st.sampled_from((1, 2)), st.integers(0, 3)
    kinds = [
        st.builds(Op, st.sampled_from(("left", "right")), triangle, way=way),
        st.builds(Op, st.just("bias"), square_of, way=way),
        st.builds(Op, st.just("scale"), st.sampled_from([(0.5,), (2.0,), (4.0,), (0.125,)]), way=way),
        st.builds(Op, st.sampled_from(("relu", "sigmoid")), way=way),
        st.builds(Op, st.sampled_from(("softmax", "around the mean")), axis=axis, way=way),
    ]
    if depth:
        kinds.append(
            st.builds(Op, st.just("residual"), inner=st.lists(_ops(depth - 1), min_size=1, max_size=3).map(tuple))
        )
    return st.one_of(kinds)


def _one_relu(ops: tuple[Op, ...], seen: list[str]) -> tuple[Op, ...]:
    """A ReLU of what is nowhere negative is nothing, which not every spelling shows: after the first, tanh."""
    result = []
    for op in ops:
        inner = _one_relu(op.inner, seen)
        result.append(replace(op, inner=inner, kind="tanh" if op.kind == "relu" and seen else op.kind))
        seen += [op.kind] if op.kind in ("relu", "sigmoid", "softmax") else []
    return tuple(result)


PROGRAMS = st.lists(_ops(1), min_size=1, max_size=6).map(lambda ops: _one_relu(tuple(ops), []))


def respelled(ops: tuple[Op, ...], random: np.random.Generator) -> tuple[Op, ...]:
    return tuple(replace(op, way=int(random.integers(4)), inner=respelled(op.inner, random)) for op in ops)


def changed(ops: tuple[Op, ...], random: np.random.Generator) -> tuple[Op, ...]:
    """One operation is another: a constant off by a unit in its last place, another function, another axis."""
    at = int(random.integers(len(ops)))
    op = ops[at]
    if op.kind == "residual":
        new = replace(op, inner=changed(op.inner, random))
    elif op.constant:
        values = list(op.constant)
        entry = int(random.integers(len(values)))
        values[entry] = float(np.nextafter(np.float32(values[entry]), np.float32(9)))
        new = replace(op, constant=tuple(values))
    elif op.kind in ("relu", "sigmoid", "tanh"):
        new = replace(op, kind="sigmoid" if op.kind != "sigmoid" else "tanh")
    elif op.kind == "around the mean":  # the other axis may make no difference: a softmax after it drops a shift
        new = replace(op, kind="scale", constant=(1 + 2**-23,))
    else:
        new = replace(op, axis=3 - op.axis)
    return (*ops[:at], new, *ops[at + 1 :])


def value(ops: tuple[Op, ...]) -> FieldTensor:
    result = run(ops, Field(RESIDUES, 1, uniform=True).images((1, SIDE, SIDE)))
    assert isinstance(result, FieldTensor)
    return result


@pytest.mark.parametrize("same", [True, False], ids=["equal", "unequal"])
def test_no_pair_is_told_wrong(same: bool) -> None:
    @settings(max_examples=PAIRS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(PROGRAMS, st.integers(0, 2**32))
    def told(ops: tuple[Op, ...], seed: int) -> None:
        random = np.random.default_rng(seed)
        other = respelled(ops if same else changed(ops, random), random)
        assert RESIDUES.equal(value(ops).residues, value(other).residues) is same

    told()
