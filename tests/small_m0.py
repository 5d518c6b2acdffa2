"""A small M0 in the place of the published one: one block a stage and fewer heads, a third of the operations.

What is tested is how a model is exported, judged, proven, run. That takes time by the operation, and every kind of
operation and every place is in one block as it is in three. Tests of the published architecture have the mark
`published_m0`, or lie in `tests/efficientvit`, and have that. Those with the mark `tiny_m0` have a smaller one still.
"""

import os
from dataclasses import replace

from efficientvit.spec import MODELS

PUBLISHED = MODELS["m0"]
SMALL = replace(PUBLISHED, dims=(64, 128, 128), heads=(4, 4, 2), depths=(1, 1, 1))
"""Four heads, as in M0: some faults name the fourth, or the Concat of four."""

TINY = replace(SMALL, heads=(2, 2, 2))
"""Two heads a stage: for tests of what is done with an artifact, whatever is in it."""

M0 = {"published": PUBLISHED, "small": SMALL, "tiny": TINY}
VARIABLE = "VIT_EXPORT_TESTS_M0"


def use(which: str | None = None) -> None:
    """One of `M0`, in this process and those that it starts; None: as the process that started this one."""
    if which is not None:
        os.environ[VARIABLE] = which
    MODELS["m0"] = M0[os.environ.get(VARIABLE, "published")]
