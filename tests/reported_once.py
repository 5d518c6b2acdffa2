"""Plots of the same figures, and the layers of the same healthy file, kept for a whole run of the tests.

Each export writes a report, and most are of the same few files: looking into their layers and drawing took a third of
an export's time. As with verdicts (tests/verdicts.py), nothing is kept for a test that replaces anything.
"""

import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from export.pipeline import handover
from export.report import plots
from runtimes.artifact import Artifact
from tests.verdicts import Switch
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.gates.result import GateResult
from validation.reference.memo import fingerprint
from validation.reference.model import ReferenceModel

_PLOTS = ("chain", "layers", "margins", "latency")


@contextmanager
def reported_once(folder: Path) -> Iterator[None]:
    """Inside the block, exports take layers and plots from `folder`, and keep there what they find and draw."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "blame_artifact", functools.partial(_layers, folder))
        for name in _PLOTS:
            patch.setattr(plots, name, functools.partial(_drawn, folder, getattr(plots, name)))
        yield


def _drawn(folder: Path, draw: Callable[..., str], *figures: Any) -> str:
    if not Switch.on:
        return draw(*figures)
    page: str = _kept(folder, (draw.__name__, figures), functools.partial(draw, *figures))
    return page


def _layers(folder: Path, artifact: Artifact, model: ReferenceModel, gates: tuple[GateResult, ...]) -> Blame:
    assert gates == (), "what was rejected is looked into by the judging"
    artifact.require_unchanged()
    trained = fingerprint("layers", model.trained, ())
    if not Switch.on or trained is None:
        return blame_artifact(artifact, model, gates)
    of = (replace(artifact, path=Path(), notes=()), trained, model.given.sha256, model.budgets)
    found: Blame = _kept(folder, of, lambda: blame_artifact(artifact, model, gates))
    return found


def _kept(folder: Path, of: object, make: Callable[[], Any]) -> Any:
    kept = folder / hashlib.sha256(pickle.dumps(of)).hexdigest()
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make()))
        return pickle.loads(kept.read_bytes())
