"""The stages of the built-in targets by name, and others in their place."""

from collections.abc import Mapping

import pytest

from export.targets.coreml.target import COMPRESS
from export.targets.registry import BUILT_IN
from export.targets.target import Job, Make, Stage
from export.targets.workshop import Workshop
from export.targets.wrapping import WRAP
from runtimes.artifact import Artifact
from runtimes.precision import Precision

_OF_TARGETS = [s for target in BUILT_IN.values() for plan in target.precisions.values() for s, _ in plan]

STAGES: Mapping[str, Make] = {stage.name: stage.make for stage in (*_OF_TARGETS, COMPRESS, WRAP)}
"""What they do, even where others are in their place."""


def replace_stages(patch: pytest.MonkeyPatch, **others: Make) -> None:
    """Let the pipeline make by `others` what the stages of these names make; those replaced before stay so."""
    before = Stage.__call__

    def made(self: Stage, shop: Workshop, job: Job, precision: Precision, source: Artifact | None) -> Artifact:
        if (other := others.get(self.name)) is not None:
            return other(shop, job, precision, source)
        return before(self, shop, job, precision, source)

    patch.setattr(Stage, "__call__", made)
