"""`manifest.json` as types: what was made, from what, and what was found. docs/manifest.md describes it.

Every manifest has the sections `coreml`, `coreai` and `tensorrt`, null for other targets. Any other target's is no
field here: it comes after the fields, under the target's name, in that target's manifests alone.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from efficientvit.head import CLASSIFIER
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.spec import MODELS
from export.folder.accuracy import AccuracyRecord
from export.folder.device_entry import DeviceEntry
from export.folder.records import AttestationRecord, BlameRecord, GateRecord, Gates, PortRecord, PrecisionRecord
from export.folder.timing import TimingRecord
from export.folder.weights import WeightsRecord
from export.records import Count, Number, Positive, Record, Sha256, Size, says
from export.targets.coreai.section import CoreAiSection
from export.targets.coreml.section import CoreMlSection
from export.targets.registry import STAGES
from export.targets.tensorrt.section import TensorRtSection
from runtimes.runtime import Evidence
from runtimes.wrapping import LOGITS, TENSOR
from validation.budgets import Budgets
from validation.inputs.golden_set import Kind

Status = Literal["verified", "built", "not_run", "rejected", "failed"]
PASSED: tuple[Status, ...] = ("verified", "built")
"""The verdicts under which an artifact may ship, with the evidence that was required."""


class ModelRecord(Record, frozen=True, kw_only=True):
    """What the artifact computes."""

    name: Annotated[str, says("Member of the family.", *MODELS)]
    image_size: Annotated[Size, says("Side, pixels; of a rectangle, height and width.")]
    classes: Annotated[Count, says("Number of logits; 0 with another head.")]
    head: Annotated[str, says("What it gives, as --head has it: logits, embedding, features, or features:2,3.")] = str(
        CLASSIFIER
    )
    labels: Annotated[list[str], says("The classes' names, where the checkpoint says them.")] = msgspec.field(
        default_factory=list
    )
    feed: Annotated[str, says("What a wrapped network is fed, as --input has it.")] = str(TENSOR)
    answers: Annotated[str, says("What it then gives in addition to the logits, as --output has it.")] = str(LOGITS)
    batch: Annotated[int | Literal["dynamic"], says("Images per run.")]
    inputs: Annotated[list[PortRecord], says("One.")]
    outputs: Annotated[list[PortRecord], says("Logits, and of a classifier two more; or what another head gives.")]


class LeastVisible(Record, frozen=True, kw_only=True):
    """The head or bias whose loss would move the logits least."""

    part: Annotated[str, says("Its name.")]
    over_budget: Annotated[Number, says("In units of the structure gate's budget.")]


class SelfCheckRecord(Record, frozen=True, kw_only=True):
    """Whether parity on these weights can fail (docs/numerics.md)."""

    vacuous: Annotated[bool, says("It cannot: nothing is called verified.")]
    failures: Annotated[list[str], says("Why.")]
    unseen: Annotated[list[str], says("What samples would not show; counts only against a program that is not "
                                      "proven.")] = msgspec.field(default_factory=list)  # fmt: skip
    input_share: Annotated[Number, says("Part of the logits that depends on the image, 0 to 1.")]
    distinct_top1: Annotated[Number | None, says("Different winners over the number of synthetic images, 0 to 1; null "
                                                 "where there are no classes, and it does not apply.")]  # fmt: skip
    float32_floor: Annotated[Number, says("Worst relative float32 error of an ordinary kind.")]
    deploy_ratio: Annotated[Number, says("Typical float32 error of the deploy form over the trained form's.")]
    least_visible: Annotated[LeastVisible, says("The head or bias whose loss would move the logits least.")]
    sham_over_budget: Annotated[Number, says("Error of the best answer that ignores the image, over its budget.")]
    photo_share: Annotated[Number | None, says("input_share on the photos that were given; null for too few.")] = None


_Channels = tuple[float, float, float]


class PreprocessingRecord(Record, frozen=True, kw_only=True):
    """From an image file to the input tensor (docs/preprocessing.md)."""

    image_size: Annotated[Size, says("Side, pixels; of a rectangle, height and width.")]
    resize: Annotated[Size, says("Short side before the crop, pixels; of a rectangle, the height and width that the "
                                 "image covers. With squash, what it is resized to.")]  # fmt: skip
    interpolation: Annotated[str, says("Pillow filter.", "bicubic", "bilinear", "lanczos", "hamming", "box", "nearest")]
    crop: Annotated[
        str, says("center keeps the aspect ratio and loses the ends; squash the reverse.", "center", "squash")
    ]
    mean: Annotated[_Channels, says("Per channel, R G B, on the scale 0 to 1.")]
    std: Annotated[_Channels, says("Per channel, R G B, on the scale 0 to 1.")]
    background: Annotated[tuple[Count, Count, Count], says("R G B behind transparency, 0 to 255.")]

    @property
    def value(self) -> Preprocessing:
        """What was recorded."""
        return Preprocessing.from_json(self.to_json())


class GoldenRecord(Record, frozen=True, kw_only=True):
    """The inputs it was judged on."""

    sha256: Annotated[Sha256, says("docs/golden-set.md says of what.")]
    images: Annotated[Count, says("How many.")]
    kinds: Annotated[dict[Kind, Count], says("How many of each kind.")]
    not_judged: Annotated[list[str], says("Images on which the model is chaotic.")]
    skipped: Annotated[list[str], says("Files in --golden that are no images.")]
    path: Annotated[str | None, says("The saved set.")]


class FileRecord(Record, frozen=True, kw_only=True):
    """A file of the folder. `verify` refuses another."""

    path: Annotated[str, says("Relative to this folder.")]
    sha256: Annotated[Sha256, says("Of the file: `verify` refuses another.")]


class ReferenceRecord(Record, frozen=True, kw_only=True):
    """The right answers and noise floors that it was judged against."""

    sha256: Annotated[Sha256, says("Of the file: `verify` refuses another.")]
    path: Annotated[str, says("The saved reference.")]


class HostRecord(Record, frozen=True, kw_only=True):
    """Where it was made and judged."""

    os: Annotated[str, says("Platform.")]
    cpu: Annotated[str, says("Model name.")]
    isa: Annotated[str, says("Widest instruction-set extension.")]
    cores: Annotated[Count, says("Physical.")]
    python: Annotated[str, says("Version.")]


class DefaultsRecord(Record, frozen=True, kw_only=True):
    """The precision gate once more under the runtime's own defaults."""

    effective: Annotated[AttestationRecord, says("How it ran with nothing set.")]
    gate: Annotated[GateRecord, says("What the precision gate found then; part of no verdict.")]


class SettingsRecord(Record, frozen=True, kw_only=True):
    """The runtime's settings."""

    shipped: Annotated[FileRecord, says("The settings that an app is to apply.")]
    effective: Annotated[AttestationRecord | None, says("How it ran under the settings that ship; null where it did "
                                                        "not run.")]  # fmt: skip
    defaults: Annotated[DefaultsRecord | None, says("The precision gate once more under the runtime's own defaults.")]


class ArtifactRecord(Record, frozen=True, kw_only=True):
    """What a stage made."""

    path: Annotated[str | None, says("Relative to this folder; null for an intermediate, of which only the digest is "
                                     "kept.")]  # fmt: skip
    format: Annotated[str, says("Kind of file. tensorrt-network: a typed ONNX file, as TensorRT's parser understood "
                                "it; tensorrt: an engine, and that file beside it.")]  # fmt: skip
    precision: Annotated[PrecisionRecord, says("Of this stage's artifact.")]
    sha256: Annotated[Sha256, says("Of the file; of several, over their names and digests (runtimes/artifact.py).")]
    source_sha256: Annotated[Sha256 | None, says("Of the artifact that it was made of.")]
    bytes: Annotated[Count, says("Size on disk, bytes, all files together.")]
    notes: Annotated[list[str], says("What a person should know of how it was made: what was kept in float32, how "
                                     "large the build was.")] = msgspec.field(default_factory=list)  # fmt: skip
    tools: Annotated[dict[str, str], says("Converters and their versions.")]


class Top1Record(Record, frozen=True, kw_only=True):
    """Top-1 against the reference on the judged ordinary images."""

    agree: Annotated[Count, says("Images with the same winner.")]
    of: Annotated[Count, says("Images.")]
    outside_margin: Annotated[Count, says("Flips that the budget cannot explain.")]


class VerdictRecord(Record, frozen=True, kw_only=True):
    """What was found of a stage's artifact."""

    status: Annotated[
        Literal["verified", "built", "rejected", "not_run"],
        says("built: it could not be run here, and what it was built from passed. not_run: it could not be checked on "
             "this host, or a check would have proved nothing."),
    ]  # fmt: skip
    evidence: Annotated[Evidence | None, says("What a verdict rests on; null if not_run.")]
    reason: Annotated[str | None, says("Why it is not verified; of what was built, why it was not run.")]
    remedy: Annotated[
        str | msgspec.UnsetType | None,
        says("What would check it; null unless built or not_run. Not there for the rewrite."),
    ] = msgspec.UNSET
    undecided: Annotated[list[str], says("Options of budgets for what running takes that nothing could be said of on "
                                         "this host; of a file that passed everything else.")] = (
        msgspec.field(default_factory=list)
    )  # fmt: skip
    gates: Annotated[Gates, says("Null where a gate does not apply.")]
    batches: Annotated[list[Positive], says("Batch sizes at which it was run.")]
    top1: Annotated[Top1Record | None, says("Top-1 against the reference on the judged ordinary images; null where it "
                                            "did not run, or there are no classes.")]  # fmt: skip


class StageRecord(Record, frozen=True, kw_only=True):
    """One stage; `rewrite` comes first and makes no file."""

    name: Annotated[str, says(f"{', '.join(('rewrite', *STAGES))}, compress or wrap; twin in older ones.")]
    artifact: Annotated[ArtifactRecord | None, says("What the stage made.")]
    seconds: Annotated[float | None, says("Time that making it took, seconds, checks not counted; null for the "
                                          "rewrite.")]  # fmt: skip
    cached: Annotated[bool, says("It was made by an earlier export of the same, and judged again by this one.")] = False
    operators: Annotated[int | None, says("Nodes of its graph; null for the rewrite.")]
    verdict: Annotated[VerdictRecord, says("What was found of the stage's artifact.")]


class FailedRecord(Record, frozen=True, kw_only=True):
    """The stage that failed."""

    stage: Annotated[str | None, says("Its name.")]
    error: Annotated[str, says("What, expected, got, next.")]


class Manifest(Record, frozen=True, kw_only=True):
    """What was made, from what, and what was found. Paths are relative to the folder that the manifest lies in."""

    schema: Annotated[Literal[1], says("Version of this schema.")]
    vit_export: Annotated[str, says("Version of vit-export.")]
    command: Annotated[list[str], says("The arguments it was called with.")]
    status: Annotated[
        Status,
        says("Of the artifact as a whole. built: an engine that could not be run here, made of a network that passed."),
    ]
    evidence_required: Annotated[Evidence, says("--require, or native for --release.")]
    exit_code: Annotated[int, Meta(ge=0, le=4), says("What this artifact alone exits with.")]
    model: Annotated[ModelRecord, says("What the artifact computes.")]
    weights: Annotated[WeightsRecord, says("Where the weights came from.")]
    self_check: Annotated[SelfCheckRecord, says("Whether parity on these weights can fail (docs/numerics.md).")]
    preprocessing: Annotated[PreprocessingRecord, says("From an image file to the input tensor.")]
    precision: Annotated[PrecisionRecord | None, says("Of what ships; null if nothing was made.")]
    golden: Annotated[GoldenRecord, says("The inputs it was judged on.")]
    reference: Annotated[ReferenceRecord | None, says("The right answers and noise floors that it was judged against; "
                                                      "null where nothing was made.")]  # fmt: skip
    tools: Annotated[dict[str, str], says("Versions of everything that took part and is installed.")]
    host: Annotated[HostRecord, says("Where it was made and judged.")]
    settings: Annotated[SettingsRecord | None, says("The runtime's settings; null where nothing was made.")]
    stages: Annotated[list[StageRecord], Meta(min_length=1), says("In order; the first rejected one is to blame.")]
    blame: Annotated[BlameRecord | None, says("Of a rejection: the first stage over budget, and what of it is likely "
                                              "at fault.")] = None  # fmt: skip
    failed: Annotated[FailedRecord | None, says("The stage that failed, if one did.")]
    artifact: Annotated[str | None, says("What ships, relative to this folder; null if nothing may.")]
    coreml: Annotated[CoreMlSection | None, says("What a Core ML package takes, gives and says of itself; null for "
                                                 "other targets.")] = None  # fmt: skip
    coreai: Annotated[CoreAiSection | None, says("What a Core AI asset gives and says of itself; null for other "
                                                 "targets.")] = None  # fmt: skip
    calibration: Annotated[str | None, says("Name of the folder of photos that int8 was calibrated on, or golden; null "
                                            "where nothing was.")] = None  # fmt: skip
    tensorrt: Annotated[TensorRtSection | None, says("What an engine was asked to be, and what it says it was built "
                                                     "with; null for other targets.")] = None  # fmt: skip
    accuracy: Annotated[AccuracyRecord | None, says("Accuracy on labeled images, --eval; null where there were none, "
                                                    "or nothing answered them.")] = None  # fmt: skip
    devices: Annotated[list[DeviceEntry], says("What devices reported of the artifact, one entry per unit and report: "
                                               "`vit-export attach` adds them. Empty until then, and for targets "
                                               "without a kit.")] = msgspec.field(default_factory=list)  # fmt: skip
    timing: Annotated[TimingRecord, says("Latency of the shipped artifact; measured only if it was verified in its "
                                         "real runtime.")]  # fmt: skip

    @property
    def budgets(self) -> Budgets:
        """What the export was asked to keep to, as far as it is recorded here: the reference has the quality budget."""
        section = self.coreml or self.coreai
        ready = section and section.neural_engine
        size = self.stages[-1].verdict.gates.get("size")
        return Budgets(
            accuracy=self.accuracy.budget_points if self.accuracy else None,
            readiness=ready.budget if ready else None,
            size_mb=float(size.budget) if size else None,
        )
