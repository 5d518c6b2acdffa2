"""The conversions of `vit-export m2 -t onnx -t openvino -t coreml`, and nothing else: what checks are timed against.

    python -m benchmarks.plain_export OUT

The same deploy form, converters and files; no reference, no gate, no report, no kit, one process.
"""

import sys
from pathlib import Path

import coremltools as ct
import numpy as np
import onnx
import onnxsim
import openvino
import torch

from efficientvit.deploy.rewrites import rewritten, tokens_before_channels
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded


def main(out: Path) -> None:
    """Write M2 with random weights as ONNX, OpenVINO IR and Core ML package into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    deploy = rewritten(seeded(model_spec("m2"), 0)).float().eval()
    image = torch.zeros(1, 3, 224, 224)

    path = out / "m2.onnx"
    torch.onnx.export(tokens_before_channels(deploy), (image,), path, dynamo=True, opset_version=18, verbose=False)
    simplified, _ = onnxsim.simplify(onnx.load(path))
    onnx.save(simplified, path)

    openvino.save_model(openvino.convert_model(path), out / "m2.xml", compress_to_fp16=False)

    program = torch.export.export(deploy, (image,)).run_decompositions({})
    package = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[ct.TensorType("image", shape=(1, 3, 224, 224), dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS15,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    package.save(str(out / "m2.mlpackage"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
