"""What a manifest says of one target alone."""

from typing import Annotated

from msgspec import Meta

from export.folder.records import Count, Positive, Record, Sha256, Share, says


class LabelsRecord(Record, frozen=True, kw_only=True):
    """The class labels."""

    path: Annotated[str, says("One a line.")]
    sha256: Annotated[Sha256, says("Over the labels, a line each.")]
    count: Annotated[Positive, says("How many.")]


class NeuralEngineRecord(Record, frozen=True, kw_only=True):
    """Static readiness for the Neural Engine."""

    heuristic: Annotated[bool, says("By Apple's rules and what guides agree on; only a device can tell.")]
    share_by_macs: Annotated[Share, says("Share of the work that satisfies every rule.")]
    macs: Annotated[Count, says("Multiply-accumulates of one run.")]
    violations: Annotated[list[str], says("Operation and rule.")]
    padded_by_macs: Annotated[
        Share, says("Share of the work that gives tensors whose last axis has fewer than 64 bytes and is padded.")
    ] = 0.0
    budget: Annotated[float | None, says("--ane-budget.")]


class CoreMlSection(Record, frozen=True, kw_only=True):
    """What a Core ML package takes, gives and says of itself."""

    input: Annotated[
        str, says("8-bit RGB image, normalized by the package, or a normalized tensor.", "image", "tensor")
    ]
    labels: Annotated[LabelsRecord | None, says("The class labels; null where it has none.")]
    ios: Annotated[int, Meta(ge=15, le=18), says("Oldest iOS that takes it.")]
    metadata: Annotated[dict[str, str], says("In the package; keys of ours begin with vit-export.")]
    neural_engine: Annotated[NeuralEngineRecord | None, says("Static readiness; null where no package was made.")]


class CoreAiSection(Record, frozen=True, kw_only=True):
    """What a Core AI asset gives and says of itself."""

    labels: Annotated[LabelsRecord | None, says("The class labels; null where it has none.")]
    ios: Annotated[int, Meta(ge=27), says("Oldest iOS and macOS that take it.")]
    neural_engine: Annotated[NeuralEngineRecord | None, says("Static readiness; null where no asset was made.")]
    metadata: Annotated[dict[str, str], says("In the asset; keys of ours begin with vit-export.")]


class TensorRtSection(Record, frozen=True, kw_only=True):
    """What an engine was asked to be, and what it says it was built with."""

    sm: Annotated[list[int], says("Compute capabilities to build for ahead of time, 89 for 8.9; an enterprise build is "
                                  "for its host's GPU.")]  # fmt: skip
    profile: Annotated[tuple[Positive, Positive, Positive], says("Smallest, usual and largest batch of a dynamic one.")]
    built_with: Annotated[dict[str, str] | None, says("Product, version, targets and settings of the build; null where "
                                                      "no engine was built.")]  # fmt: skip
