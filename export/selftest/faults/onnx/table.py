"""Every fault that is planted in ONNX files, as data."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from export.selftest.faults.fault import FileFault, Rng, first_line
from export.selftest.faults.onnx.graph import (
    crossed_wires,
    dropped_residual,
    flipped_kernel,
    flushed_weight,
    half_ports,
    hard_sigmoid,
    last_bit,
    leaky,
    nudged_logits,
    one_class_less,
    other_checkpoint,
    permuted_channels,
    pool_less,
    relu6,
    relu6_without_a_constant,
    renamed_input,
    rewired_biases,
    scale_off_by_an_ulp,
    scaled_weight,
    sham,
    softmax_at_the_end,
    softmax_axis,
    stray_constant,
    stripped_padding,
    subnormals_flushed,
    swapped_biases,
    swapped_classes,
    transposed_constant,
    zeroed_bias,
)
from export.selftest.faults.onnx.quantized import (
    back_by_another_scale,
    bias_zero_point_off_by_one,
    clipped_activation,
    coarse_activation,
    integer_off_by_one,
    lost_pair,
    lost_relu,
    other_heads_integers,
    weight_scale_by_an_ulp,
    zero_point_for_negatives,
)

if TYPE_CHECKING:
    import onnx


def _fault(
    plant: "Callable[[onnx.ModelProto, Rng], None]", target: str, precision: str, stage: str, gate: str
) -> FileFault:
    def spoil(path: Path, rng: Rng) -> None:
        import onnx

        model = onnx.load(path)
        plant(model, rng)
        onnx.save(model, path)

    return FileFault(plant.__name__, first_line(plant), target, precision, stage, gate, spoil)


FAULTS = (
    _fault(renamed_input, "onnx", "fp32", "simplify", "interface"),
    _fault(half_ports, "onnx", "fp16", "precision", "interface"),
    _fault(one_class_less, "onnx", "fp32", "trace", "interface"),
    _fault(last_bit, "onnx", "fp32", "trace", "constants"),
    _fault(zeroed_bias, "onnx", "fp32", "trace", "precision"),
    _fault(scaled_weight, "onnx", "fp32", "trace", "precision"),
    _fault(swapped_biases, "onnx", "fp32", "trace", "constants"),
    _fault(rewired_biases, "onnx", "fp32", "trace", "structure"),
    _fault(flipped_kernel, "onnx", "fp32", "trace", "structure"),
    _fault(relu6, "onnx", "fp32", "trace", "structure"),
    _fault(sham, "onnx", "fp32", "trace", "precision"),
    _fault(softmax_axis, "onnx", "fp32", "simplify", "structure"),
    _fault(stripped_padding, "onnx", "fp32", "simplify", "structure"),
    _fault(transposed_constant, "onnx", "fp32", "simplify", "constants"),
    _fault(permuted_channels, "onnx", "fp32", "simplify", "structure"),
    _fault(dropped_residual, "onnx", "fp32", "simplify", "precision"),
    _fault(swapped_classes, "onnx", "fp32", "simplify", "structure"),
    _fault(last_bit, "onnx", "fp16", "precision", "constants"),
    _fault(subnormals_flushed, "onnx", "fp16", "precision", "constants"),
    _fault(rewired_biases, "onnx", "fp16", "precision", "structure"),
    _fault(sham, "onnx", "fp16", "precision", "precision"),
    _fault(relu6, "onnx", "fp16", "precision", "structure"),
    _fault(relu6_without_a_constant, "onnx", "fp32", "trace", "structure"),
    _fault(leaky, "onnx", "fp32", "trace", "structure"),
    _fault(stray_constant, "onnx", "fp32", "trace", "constants"),
    _fault(crossed_wires, "onnx", "fp32", "trace", "structure"),
    _fault(hard_sigmoid, "onnx", "fp32", "simplify", "structure"),
    _fault(softmax_at_the_end, "onnx", "fp32", "simplify", "precision"),
    _fault(nudged_logits, "onnx", "fp32", "simplify", "constants"),
    _fault(scale_off_by_an_ulp, "onnx", "fp16", "precision", "constants"),
    _fault(flushed_weight, "onnx", "fp16", "precision", "constants"),
    _fault(relu6_without_a_constant, "onnx", "fp16", "precision", "structure"),
    _fault(crossed_wires, "onnx", "fp16", "precision", "structure"),
    _fault(pool_less, "onnx", "fp32", "simplify", "structure"),
    _fault(other_checkpoint, "onnx", "fp32", "trace", "constants"),
    _fault(integer_off_by_one, "onnx", "int8", "quantize", "constants"),
    _fault(weight_scale_by_an_ulp, "onnx", "int8", "quantize", "constants"),
    _fault(other_heads_integers, "onnx", "int8", "quantize", "constants"),
    _fault(bias_zero_point_off_by_one, "onnx", "int8", "quantize", "constants"),
    _fault(coarse_activation, "onnx", "int8", "quantize", "ranges"),
    _fault(clipped_activation, "onnx", "int8", "quantize", "ranges"),
    _fault(zero_point_for_negatives, "onnx", "int8", "quantize", "ranges"),
    _fault(back_by_another_scale, "onnx", "int8", "quantize", "operators"),
    _fault(lost_pair, "onnx", "int8", "quantize", "operators"),
    _fault(lost_relu, "onnx", "int8", "quantize", "structure"),
    _fault(softmax_axis, "onnx", "int8", "quantize", "structure"),
    _fault(sham, "onnx", "int8", "quantize", "quality"),
)
