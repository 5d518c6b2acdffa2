"""The manifest's section `tensorrt`."""

from export.folder.sections import TensorRtSection
from export.targets.target import HandedOver, Section
from export.targets.tensorrt.options import TensorRtOptions
from runtimes.artifact import Format


def _fill(handed: HandedOver) -> TensorRtSection:
    options, artifact = TensorRtOptions.of(handed.job), handed.final
    engine = artifact is not None and artifact.format == Format.ENGINE
    built_with = dict(artifact.settings) if artifact is not None and engine else None
    return TensorRtSection(sm=list(options.sm), profile=options.profile, built_with=built_with)


SECTION = Section(TensorRtSection, _fill)
