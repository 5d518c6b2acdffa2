"""The ONNX exporter runs once for each architecture, image size, batch and opset in a whole run of the tests.

Other weights take the place of those that a kept file was traced with. That gives the bytes that a trace of their own
gives, which `export/targets/onnx/test_trace.py` checks.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from filelock import FileLock

from efficientvit.deploy.rewrites import tokens_before_channels
from efficientvit.model import EfficientViT
from export.targets.onnx import target
from export.targets.onnx import trace as tracer
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.onnx.graph import write_onnx
from validation.reference.memo import fingerprint


def trace_once(folder: Path) -> None:
    """From here on, stage `trace` of this process takes files from `folder`, where it keeps those that it makes."""
    program, trace = target._program, tracer.trace

    def traced(captured: Any, deploy: EfficientViT, out: Path, *, batch: int | None, opset: int) -> Artifact:
        if not isinstance(captured, _Later):
            return trace(captured, deploy, out, batch=batch, opset=opset)
        form = tokens_before_channels(deploy)
        if not _distinct(form):  # the exporter keeps one of several equal tensors, and its file fits no other weights
            return trace(program(captured.shop, batch), deploy, out, batch=batch, opset=opset)
        key = fingerprint(f"{form.spec} {batch} {opset}", _without_weights(form), ())
        assert key is not None
        kept = folder / f"{key}.onnx"
        folder.mkdir(exist_ok=True)
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                made = trace(program(captured.shop, batch), deploy, out, batch=batch, opset=opset)
                made.copied_to(kept.with_suffix("")).rename(kept)
                return made
        write_onnx(_with_weights(onnx.load(kept), form), out)
        tools = versions("torch", "onnxscript", "onnx")
        return Artifact.on_disk(out, Format.ONNX, deploy.spec, made_by="trace", batch=batch, tools=tools)

    setattr(target, "_program", lambda shop, _: _Later(shop))  # noqa: B010 - of a type that mypy knows better
    setattr(tracer, "trace", traced)  # noqa: B010


@dataclass(frozen=True)
class _Later:
    """A program that is captured if no kept file will do."""

    shop: Workshop


def _distinct(form: EfficientViT) -> bool:
    """No two of its tensors are equal, as biases of zeros are."""
    weights = [tensor.numpy().tobytes() for tensor in form.state_dict().values() if tensor.is_floating_point()]
    return len(set(weights)) == len(weights)


@torch.no_grad()
def _without_weights(form: EfficientViT) -> EfficientViT:
    """Alike for all weights. Buffers of integers are part of the architecture."""
    form = copy.deepcopy(form)
    for tensor in (*form.parameters(), *form.buffers()):
        if tensor.is_floating_point():
            tensor.zero_()
    return form


def _with_weights(model: onnx.ModelProto, form: EfficientViT) -> onnx.ModelProto:
    weights = form.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = weights[tensor.name].numpy().tobytes()
    return model
