"""A small M0 in the place of the published one: one block a stage and fewer heads, a third of the operations.

What is tested is how a model is exported, judged, proven, run. That takes time by the operation, and every kind of
operation and every place is in one block as it is in three. Tests of the published architecture have the mark
`published_m0`, or lie in `tests/efficientvit`, and have that.
"""

import os
from dataclasses import replace

from efficientvit.spec import MODELS

PUBLISHED = MODELS["m0"]
SMALL = replace(PUBLISHED, dims=(64, 128, 128), heads=(4, 4, 2), depths=(1, 1, 1))
"""Four heads, as in M0: some faults name the fourth, or the Concat of four."""

VARIABLE = "VIT_EXPORT_TESTS_M0"


def use(small: bool | None = None) -> None:
    """The one or the other, in this process and those that it starts; None: as the process that started this one."""
    if small is not None:
        os.environ[VARIABLE] = "small" if small else "published"
    MODELS["m0"] = SMALL if os.environ.get(VARIABLE) == "small" else PUBLISHED
