"""The manifest's section `tensorrt`."""

import msgspec

from export.targets.target import HandedOver, Section
from export.targets.tensorrt.options import TensorRtOptions
from runtimes.artifact import Format


class TensorRtSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options, and `built_with`: what the engine says of itself when it is read back; null where none was built."""

    sm: tuple[int, ...]
    profile: tuple[int, int, int]
    built_with: dict[str, str] | None


def _fill(handed: HandedOver) -> TensorRtSection:
    options, artifact = TensorRtOptions.of(handed.job), handed.final
    engine = artifact is not None and artifact.format == Format.ENGINE
    return TensorRtSection(options.sm, options.profile, dict(artifact.settings) if artifact and engine else None)


SECTION = Section(TensorRtSection, _fill)
