"""Stage `coreml`: the torch.export program to a Core ML package (ML program)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import MissingExtra
from efficientvit.images.preprocessing import Preprocessing
from export.targets.coreml.package import save
from export.targets.coreml.validated_once import validated_once
from runtimes.artifact import Artifact, Format, Interface
from runtimes.host.machine import versions
from runtimes.interface import INPUT, PROBABILITIES
from runtimes.precision import Dtype, Precision

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT
    from efficientvit.spec import ModelSpec


def capture_for_coreml(deploy: "EfficientViT", batch: int, *, labeled: bool) -> "ExportedProgram":
    """The program of (batch, 3, H, W) -> what the model gives; `labeled`: probabilities of a classifier's answers too.

    Those are the softmax of the logits; of a single logit z that of 0 and z, which is 1 - sigmoid(z) and sigmoid(z).
    """
    import torch

    network = with_softmax(deploy) if labeled else deploy
    exported = torch.export.export(network, (torch.zeros(deploy.spec.image_size.nchw(batch)),))
    # Without this coremltools refuses the program: its dialect is TRAINING.
    program: ExportedProgram = exported.run_decompositions({})
    return program


def with_softmax(deploy: "EfficientViT") -> "nn.Module":
    """(B, 3, H, W) -> the classifier's logits and its answers' probabilities."""
    import torch
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = deploy

        def forward(self, image: "Tensor") -> "tuple[Tensor, Tensor]":
            logits = self.net(image)
            if deploy.spec.classes > 1:
                return logits, logits.softmax(1)
            yes = logits.sigmoid()
            return logits, torch.cat((1 - yes, yes), 1)

    return Classifier().eval()


def to_coreml(
    program: "ExportedProgram",
    model: "ModelSpec",
    out: Path,
    *,
    batch: int,
    activations: Dtype,
    interface: Interface,
    preprocessing: Preprocessing,
    ios: int,
    made_by: str,
) -> Artifact:
    """Write the package `out` (.mlpackage), float32 outputs whatever is between, the same bytes for the same input.

    Raises:
        MissingExtra: coremltools is not installed.
    """
    try:
        import coremltools as ct
    except ModuleNotFoundError as error:
        raise MissingExtra("coremltools", "coreml", "converting to Core ML") from error
    import numpy as np

    shape = model.image_size.nchw(batch)
    outputs = [output.name for output in model.outputs] + ([PROBABILITIES] if interface.labels else [])
    with validated_once():
        package = ct.convert(
            program,
            convert_to="mlprogram",
            inputs=[_image(shape, preprocessing.mean) if interface.image_input else _tensor(shape)],
            outputs=[ct.TensorType(name, dtype=np.float32) for name in outputs],
            minimum_deployment_target=ct.target[f"iOS{ios}"],
            compute_precision=ct.precision.FLOAT16 if activations is Dtype.FP16 else ct.precision.FLOAT32,
            skip_model_load=True,
        )
    save(package, out, interface)
    return Artifact.on_disk(
        out,
        Format.COREML,
        model,
        made_by=made_by,
        batch=batch,
        precision=Precision(activations, activations, activations),
        tools=versions("coremltools", "torch"),
        interface=interface,
    )


# coremltools writes into the types that it is given, so each conversion gets its own.


def _image(shape: tuple[int, ...], mean: Sequence[float]) -> Any:
    """8-bit RGB; pixel / 255 - mean before the network, whose first convolution is divided by std."""
    import coremltools as ct

    bias = [-channel for channel in mean]
    return ct.ImageType(INPUT, shape=shape, scale=1 / 255, bias=bias, color_layout=ct.colorlayout.RGB)


def _tensor(shape: tuple[int, ...]) -> Any:
    import coremltools as ct
    import numpy as np

    return ct.TensorType(INPUT, shape=shape, dtype=np.float32)
