"""Stage `simplify`: onnxsim, whose check flag is read. A failure is a failure, never "keep the old file"."""

from pathlib import Path

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact
from runtimes.host.machine import versions
from runtimes.onnx.graph import write_onnx

_CHECKS = 1


def simplify(source: Artifact, out: Path) -> Artifact:
    """Fold constants and drop what does nothing.

    Raises:
        StageFailed: onnxsim says that its result computes something else.
    """
    import onnx
    import onnxsim

    original = onnx.load(source.path)
    shapes = {"image": list(source.model.image_size.nchw(source.batch or 2))}
    simplified, equivalent = onnxsim.simplify(original, check_n=_CHECKS, test_input_shapes=shapes, certify=False)
    if not equivalent:
        raise StageFailed(
            "onnxsim's own check says that the simplified graph computes something else",
            expected="equal outputs on a random input",
            got="outputs that differ",
            next_step="report the graph to onnxsim; nothing was shipped",
        )
    simplified.ir_version = original.ir_version
    del simplified.metadata_props[:]  # onnxsim notes there what it did: no part of the model
    write_onnx(simplified, out)
    return source.becomes(out, "simplify", tools=versions("onnxsim", "onnx"))
