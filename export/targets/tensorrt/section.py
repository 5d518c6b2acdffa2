"""The manifest's section `tensorrt`."""

from typing import Annotated

from export.records import Positive, Record, says
from export.targets.target import HandedOver, Section
from export.targets.tensorrt.options import TensorRtOptions
from runtimes.artifact import Format


class TensorRtSection(Record, frozen=True, kw_only=True):
    """What an engine was asked to be, and what it says it was built with."""

    sm: Annotated[list[int], says("Compute capabilities to build for ahead of time, 89 for 8.9; an enterprise build is "
                                  "for its host's GPU.")]  # fmt: skip
    profile: Annotated[tuple[Positive, Positive, Positive], says("Smallest, usual and largest batch of a dynamic one.")]
    built_with: Annotated[dict[str, str] | None, says("Product, version, targets and settings of the build; null where "
                                                      "no engine was built.")]  # fmt: skip


def _fill(handed: HandedOver) -> TensorRtSection:
    options, artifact = TensorRtOptions.of(handed.job), handed.final
    engine = artifact is not None and artifact.format == Format.ENGINE
    built_with = dict(artifact.settings) if artifact is not None and engine else None
    return TensorRtSection(sm=list(options.sm), profile=options.profile, built_with=built_with)


SECTION = Section(TensorRtSection, _fill)
