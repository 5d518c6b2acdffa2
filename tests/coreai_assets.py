"""Small Core AI assets, written in MLIR's text, and what skips a test where Apple's packages are not installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest

needs_coreai = pytest.mark.skipif(
    find_spec("coreai_torch") is None, reason="Apple's packages are not installed: pip install vit-export[coreai]"
)

TINY = """
  coreai.graph @main(%x: tensor<1x3x4x4xf32> {coreai.name = "image"}) -> (tensor<1x2xf32> {coreai.name = "logits"}) {
    %weight = coreai.constant dense_resource<own_weight> : tensor<2x3x4x4xf32>
    %one = coreai.constant dense<1> : tensor<2xui32>
    %groups = coreai.constant dense<1> : tensor<ui32>
    %shape = coreai.constant dense<[1, 2]> : tensor<2xui32>
    %bias = coreai.constant dense<[0.5, -1.0]> : tensor<2xf32>
    %y = coreai.conv2d %x, %weight, %one, %one, %groups : (tensor<1x3x4x4xf32>, tensor<2x3x4x4xf32>, tensor<2xui32>, \
tensor<2xui32>, tensor<ui32>) -> tensor<1x2x1x1xf32>
    %z = coreai.reshape %y, %shape : (tensor<1x2x1x1xf32>, tensor<2xui32>) -> tensor<1x2xf32>
    %logits = coreai.decomposable.broadcasting_add %z, %bias : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    coreai.output %logits : tensor<1x2xf32>
  }
"""
"""A convolution over the whole image, and a bias."""


def saved(functions: str, path: Path, resources: str = "") -> Path:
    """The asset of a program with these functions. `resources`: of constants that stand outside, name and bytes."""
    from coreai._compiler.ir import Module
    from coreai.authoring import AIProgram, Context

    text = f"module {{\n{functions}\n}}"
    if resources:
        text += "\n{-#\n  dialect_resources: { builtin: { " + resources + " } }\n#-}"
    module = Module.parse(text, Context()._mlir_context)
    AIProgram._from_mlir_module(module).save_asset(path)
    return path


def tiny(path: Path) -> Path:
    """`TINY`, with the weights 0, 1, 2, ... 95."""
    import numpy as np

    data = np.arange(96, dtype="<f4").tobytes()
    return saved(TINY, path, f'own_weight: "0x10000000{data.hex().upper()}"')
