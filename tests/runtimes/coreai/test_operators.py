"""Each operation in torch against Apple's own runtime, on one asset of all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from efficientvit.errors import UnknownOperation
from runtimes.coreai.aimodel import load_program
from runtimes.coreai.operators import CORE_AI, OPERATORS
from runtimes.coreai.process import Child
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from tests.coreai_assets import needs_coreai, saved

pytestmark = needs_coreai

X = "tensor<2x4x6x6xf32>"
CONSTANTS = {
    "kernel": ("tensor<4x2x3x3xf32>", "dense<0.25>"),
    "one": ("tensor<2xui32>", "dense<1>"),
    "two": ("tensor<2xui32>", "dense<2>"),
    "three": ("tensor<2xui32>", "dense<3>"),
    "groups": ("tensor<ui32>", "dense<2>"),
    "no": ("tensor<i1>", "dense<false>"),
    "yes": ("tensor<i1>", "dense<true>"),
    "pads": ("tensor<8xui32>", "dense<[0, 0, 1, 2, 0, 1, 2, 0]>"),
    "filling": ("tensor<f32>", "dense<1.5>"),
    "last": ("tensor<si32>", "dense<-1>"),
    "second": ("tensor<si32>", "dense<1>"),
    "axes": ("tensor<2xsi32>", "dense<[2, -1]>"),
    "front": ("tensor<1xsi32>", "dense<0>"),
    "sizes": ("tensor<2xui32>", "dense<[1, 3]>"),
    "size": ("tensor<ui32>", "dense<3>"),
    "start": ("tensor<4xsi32>", "dense<[0, 1, -4, 0]>"),
    "end": ("tensor<4xsi32>", "dense<[2, 4, -1, 6]>"),
    "step": ("tensor<4xsi32>", "dense<[1, 2, 1, 3]>"),
    "order": ("tensor<4xui32>", "dense<[3, 0, 2, 1]>"),
    "shape": ("tensor<3xui32>", "dense<[2, 24, 6]>"),
    "whole": ("tensor<3xsi32>", "dense<[2, -1, 6]>"),
    "channel": ("tensor<4x1x1xf32>", "dense<[[[0.5]], [[2.0]], [[-1.0]], [[3.0]]]>"),
    "everywhere": ("tensor<2x4x6x6xi1>", "dense<true>"),
    "some": ("tensor<4x1x1xi1>", "dense<[[[true]], [[false]], [[false]], [[true]]]>"),
    "wide": ("tensor<5xui32>", "dense<[3, 2, 4, 6, 6]>"),
}  # fmt: skip

# Name of the case, what it reads beside the input, and the type of each result.
CASES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    **{kind: (kind, "%x", (X,)) for kind in ("relu", "sigmoid", "silu", "gelu")},
    **{kind: (kind, "%x", (X,)) for kind in ("abs", "erf", "exp", "tanh")},
    **{kind: (kind, "%positive", (X,)) for kind in ("log", "rsqrt", "sqrt")},
    **{kind: (kind, "%positive, %x", (X,)) for kind in ("add", "sub", "mul", "divide", "maximum", "minimum", "pow")},
    **{
        f"broadcasting_{kind}": (f"decomposable.broadcasting_{kind}", "%positive, %channel", (X,))
        for kind in ("add", "sub", "mul", "divide", "maximum", "minimum", "pow")
    },
    "batch_matmul": ("batch_matmul", "%x, %positive", (X,)),
    "broadcasting_batch_matmul": ("decomposable.broadcasting_batch_matmul", "%x, %matrix", (X,)),
    "conv2d": ("conv2d", "%x, %kernel, %two, %one, %groups", ("tensor<2x4x2x2xf32>",)),
    "dilated": ("conv2d", "%x, %kernel, %one, %two, %groups", ("tensor<2x4x2x2xf32>",)),
    "pad": ("pad", "%x, %pads, %filling", ("tensor<2x7x7x8xf32>",)),
    "where": ("decomposable.broadcasting_where", "%some, %x, %positive", (X,)),
    "where it is padded": (
        "decomposable.broadcasting_where",
        "%inside, %filling, %y_pad",
        ("tensor<2x7x7x8xf32>",),
    ),
    "max_pool_2d": ("max_pool_2d", "%x, %three, %two, %one, %no", ("tensor<2x4x2x2xf32>",)),
    "ceiling": ("max_pool_2d", "%x, %three, %two, %one, %yes", ("tensor<2x4x3x3xf32>",)),
    "softmax": ("softmax", "%x, %last", (X,)),
    "softmax of channels": ("softmax", "%x, %second", (X,)),
    **{
        kind: (kind, "%x, %axes", ("tensor<2x4x1x1xf32>",))
        for kind in ("reduce_max", "reduce_mean", "reduce_min", "reduce_sum")
    },
    "split": ("split", "%x, %sizes, %second", ("tensor<2x1x6x6xf32>", "tensor<2x3x6x6xf32>")),
    "split by size": ("split", "%x, %size, %second", ("tensor<2x3x6x6xf32>", "tensor<2x1x6x6xf32>")),
    "concat": ("concat", "%second, %x, %positive", ("tensor<2x8x6x6xf32>",)),
    "slice": ("slice", "%x, %start, %end, %step", ("tensor<2x2x3x2xf32>",)),
    "transpose": ("transpose", "%x, %order", ("tensor<6x2x6x4xf32>",)),
    "reshape": ("reshape", "%x, %shape", ("tensor<2x24x6xf32>",)),
    "reshape with a rest": ("reshape", "%x, %whole", ("tensor<2x24x6xf32>",)),
    "expand_dims": ("expand_dims", "%x, %front", ("tensor<1x2x4x6x6xf32>",)),
    "shrink_dims": ("shrink_dims", "%one_more, %front", (X,)),
    "broadcast_to": ("broadcast_to", "%x, %wide", ("tensor<3x2x4x6x6xf32>",)),
    "half": ("cast", "%x", ("tensor<2x4x6x6xf16>",)),
    "bytes": ("cast", "%scaled", ("tensor<2x4x6x6xui8>",)),
}


def _line(name: str, case: tuple[str, str, tuple[str, ...]], types: Mapping[str, str]) -> str:
    """The operation as MLIR has it in any dialect: its generic form."""
    kind, reads, results = case
    given = ", ".join(types[each] for each in reads.split(", "))
    attributes = " {padding_mode = #coreai.padding_mode<constant>}" if kind == "pad" else ""
    several = f":{len(results)}" if len(results) > 1 else ""
    return f'%{name}{several} = "coreai.{kind}"({reads}){attributes} : ({given}) -> ({", ".join(results)})'


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    types = {"%x": X, "%positive": X, "%scaled": X, "%one_more": "tensor<1x2x4x6x6xf32>", "%matrix": "tensor<6x6xf32>"}
    types |= {"%inside": "tensor<2x7x7x8xi1>", "%y_pad": "tensor<2x7x7x8xf32>"}
    types |= {f"%{name}": kind for name, (kind, _) in CONSTANTS.items()}
    lines = [f"%{name} = coreai.constant {value} : {kind}" for name, (kind, value) in CONSTANTS.items()]
    lines += [
        "%matrix = coreai.constant dense<0.125> : tensor<6x6xf32>",
        _line("positive", ("exp", "%x", (X,)), types),
        _line("scaled", ("decomposable.broadcasting_mul", "%positive, %filling", (X,)), types),
        _line("inside", ("pad", "%everywhere, %pads, %no", ("tensor<2x7x7x8xi1>",)), types),
        _line("one_more", ("expand_dims", "%x, %front", ("tensor<1x2x4x6x6xf32>",)), types),
    ]
    given: list[tuple[str, str, str]] = []
    for name, case in CASES.items():
        value = name.replace(" ", "_")
        lines.append(_line(f"y_{value}", case, types))
        for place, kind in enumerate(case[2]):
            read = f"%y_{value}" + (f"#{place}" if len(case[2]) > 1 else "")
            given.append((f"{name} {place}", read, kind))
    declared = ", ".join(f'{kind} {{coreai.name = "{name}"}}' for name, _, kind in given)
    lines.append(f"coreai.output {', '.join(read for _, read, _ in given)} : {', '.join(kind for _, _, kind in given)}")
    body = "\n".join(lines)
    text = f'coreai.graph @main(%x: {X} {{coreai.name = "image"}}) -> ({declared}) {{\n{body}\n}}'
    return saved(text, tmp_path_factory.mktemp("assets") / "all.aimodel")


@pytest.fixture(scope="module")
def both(asset: Path) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]:
    """What Apple's runtime gives, and the evaluator in float64."""
    images = np.random.Generator(np.random.PCG64(3)).standard_normal((2, 4, 6, 6)).astype(np.float32)
    with Child("run", asset) as child:
        child.message()
        theirs = child.ask("image", images)
    return theirs, Evaluator(load_program(asset), Arithmetic.FLOAT64, CORE_AI)({"image": images})


@pytest.mark.parametrize("name", [f"{name} {place}" for name, case in CASES.items() for place in range(len(case[2]))])
def test_an_operation_computes_what_apples_runtime_does(
    both: tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]], name: str
) -> None:
    theirs, ours = both[0][name], both[1][name].numpy()
    assert theirs.shape == ours.shape
    bound = 2e-3 if theirs.dtype == np.float16 else 2e-6
    assert np.allclose(theirs.astype(np.float64), ours.astype(np.float64), rtol=bound, atol=bound)


def test_every_operation_is_tried() -> None:
    tried = {kind.rpartition(".")[2] for kind, _, _ in CASES.values()}
    assert set(OPERATORS) - tried == {"identity"}  # no operation of Apple's: an output under another name


def test_an_operation_that_is_unknown_is_named(tmp_path: Path) -> None:
    asset = saved(
        'coreai.graph @main(%x: tensor<4xf32> {coreai.name = "image"}) -> (tensor<4xf32> {coreai.name = "y"}) {\n'
        "%y = coreai.sinh %x : tensor<4xf32> -> tensor<4xf32>\n coreai.output %y : tensor<4xf32> }",
        tmp_path / "sinh.aimodel",
    )
    with pytest.raises(UnknownOperation, match="sinh"):
        Evaluator(load_program(asset), Arithmetic.FLOAT64, CORE_AI)
