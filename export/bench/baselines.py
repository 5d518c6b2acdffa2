"""The models that the paper compares itself with, made and judged with the same effort (`vit-export bench --paper`)."""

import functools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize, square
from efficientvit.spec import ModelSpec, PaperFigures
from export.targets.onnx import quantize, simplify
from export.targets.onnx.mixed_precision import can_fall_back, fall_back
from export.targets.onnx.target import QUANTIZE
from export.targets.openvino import convert
from export.targets.registry import TARGETS
from export.workers import output_capture
from export.workers.gc_freeze import collector_at_rest
from export.workers.progress import Step
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.host.packages import missing
from runtimes.interface import INPUT, OUTPUT
from runtimes.onnx.graph import write_onnx
from runtimes.registry import native_runtime
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic
from validation.verdict import NotRun, Verdict, VerifiedArtifact

if TYPE_CHECKING:
    from torch import nn

    from validation.external.other_models import BaselineModel

BASELINES: Mapping[str, ImageSize] = {
    "mobilenetv2_100": square(224),
    "mobilenetv3_large_100": square(224),
    "efficientnet_b0": square(224),
    "mobilevit_xxs": square(256),
}
"""timm's name -> size of the image, as its authors trained it."""

STOCK = "stock"
"""In the place of a precision: what torch.onnx.export writes, nothing done to it."""

_OPSET = 18
_UNPUBLISHED = PaperFigures(float("nan"), 0, 0, float("nan"), float("nan"))


@dataclass(frozen=True, slots=True)
class Baseline:
    """One artifact of a baseline and what the gates say of it."""

    model: str
    target: str
    precision: str
    verdict: Verdict


def baselines(
    name: str,
    batch: int,
    targets: tuple[str, ...],
    out: Path,
    step: Step,
    precisions: tuple[str, ...] = (),
    before: Sequence[Baseline] = (),
) -> tuple[Baseline, ...]:
    """Make one of `BASELINES` for each target in every precision that EfficientViT is made in, and judge it.

    fp16 is left out: no CPU here computes in it. int8 is calibrated on the golden images. `precisions`: judge no others
    but `STOCK`. `before`: what was found at another batch, whose int8 says where to begin.

    Raises:
        MissingExtra: timm is not installed.
    """
    from validation.external.other_models import judge_baseline
    from validation.judge import within_quality

    step(f"{name}: weights and reference")
    model = prepared(name)
    module, golden = model.module, model.golden
    folder = out / f"{name}-b{batch}"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Baseline] = []
    made: dict[tuple[str, str], Artifact] = {}

    @functools.cache
    def floats_pass() -> bool:
        """Of int8 no structure is judged: what it is made of has to have passed."""
        floats = made["onnx", "fp32"]
        return isinstance(
            judge_baseline(floats, model.at(floats.precision), native_runtime(floats.format)), VerifiedArtifact
        )

    with output_capture.into(folder / "log.txt"):
        for target, precision, artifact in _made(name, module, golden, batch, targets, folder, step):
            made[target, precision] = artifact
            if target not in targets or (precisions and precision not in (STOCK, *precisions)):
                continue
            step(f"{name}-{target}-{precision}: judging")
            reference, runtime = model.at(artifact.precision), native_runtime(artifact.format)
            if artifact.precision.quantized and not floats_pass():
                reason = "the float32 file that it is made of is rejected"
                found.append(Baseline(name, target, precision, NotRun(artifact, reason, "mend that one")))
                continue
            verdict = judge_baseline(artifact, reference, runtime)
            if can_fall_back(verdict):
                verdict = fall_back(
                    verdict,
                    made["onnx", "fp32"],
                    golden.images,
                    folder / "float_layers" / artifact.path.name,
                    holds=[partial(within_quality, reference=reference, runtime=runtime)],
                    judged=partial(judge_baseline, reference=reference, runtime=runtime),
                    step=step,
                    known=_known(before, target),
                )
            found.append(Baseline(name, target, precision, verdict))
    return tuple(found)


def _known(before: Sequence[Baseline], target: str) -> tuple[str, ...] | None:
    """Which layers int8 left in float32 at another batch; none where the search was in vain, None elsewhere."""
    for each in before:
        if (each.target, each.precision) == (target, "int8"):
            left = each.verdict.artifact.precision.float_layers
            return left if left or can_fall_back(each.verdict) else None
    return None


@functools.lru_cache(maxsize=1)  # all batches of a model come one after the other
def prepared(name: str) -> "BaselineModel":
    """One of `BASELINES` with weights and its reference.

    Raises:
        MissingExtra: timm is not installed.
    """
    from validation.external.other_models import BaselineModel

    if (error := missing("timm", "baselines", "making the models to compare with")) is not None:
        raise error
    golden = synthetic(Preprocessing(image_size=BASELINES[name])).ordinary()
    return BaselineModel(_seeded(name, golden), golden)


def baseline_spec(name: str) -> ModelSpec:
    """What is known of it: its name and image size."""
    return ModelSpec(name, (0, 0, 0), (0, 0, 0), (0, 0, 0), (), _UNPUBLISHED, 0, BASELINES[name])


def _made(
    name: str,
    module: "nn.Module",
    golden: GoldenSet,
    batch: int,
    targets: tuple[str, ...],
    folder: Path,
    step: Step,
) -> Iterator[tuple[str, str, Artifact]]:
    step(f"{name}: torch.onnx.export, batch {batch}")
    stock = _stock(name, module, batch, folder / f"{name}-stock.onnx")
    simplified = simplify.simplify(stock, folder / f"{name}.onnx")
    yield "onnx", STOCK, stock
    yield "onnx", "fp32", simplified
    with tempfile.TemporaryDirectory() as ranges:

        def quantized(target: str) -> Artifact:
            (made,) = (form for stage, form in TARGETS[target].precisions["int8"] if stage is QUANTIZE)
            out = folder / f"{name}-{target}-int8.onnx"
            return quantize.quantize(simplified, out, golden.images, made, Path(ranges))

        if "onnx" in targets:
            step(f"{name}: int8")
            yield "onnx", "int8", quantized("onnx")
        if "openvino" in targets:
            for precision in ("fp32", "bf16"):
                made = TARGETS["openvino"].precisions[precision][-1][1]
                out = folder / f"{name}-{precision}.xml"
                yield "openvino", precision, convert.to_openvino(simplified, out, made)
            step(f"{name}: int8 for OpenVINO")
            source = quantized("openvino")
            yield "openvino", "int8", convert.to_openvino(source, folder / f"{name}-int8.xml", source.precision)


def _stock(name: str, module: "nn.Module", batch: int, out: Path) -> Artifact:
    import torch

    size = BASELINES[name]
    with collector_at_rest():
        program = torch.onnx.export(
            module,
            (torch.zeros(size.nchw(batch)),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    write_onnx(_named(program.model_proto), out)
    tools = versions("torch", "onnx")
    return Artifact.on_disk(
        out, Format.ONNX, baseline_spec(name), made_by="torch.onnx.export", batch=batch, tools=tools
    )


def _named(model: Any) -> Any:
    """Without the exporter's notes, which hold paths of this machine; nodes keep the names that it gave them."""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def _seeded(name: str, golden: GoldenSet) -> "nn.Module":
    """timm's model with random weights, its normalizations calibrated: no hub is asked for trained ones.

    Latency does not depend on them, and a comparison of quality is none without training anyway.
    """
    import timm
    import torch
    from torch import nn

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module: nn.Module = timm.create_model(name, pretrained=False)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None  # the mean over all passes
        module.train()
        images = torch.tensor(golden.images)
        for chunk in images.split(len(images) // 2):
            module(chunk)
    return module.eval()
