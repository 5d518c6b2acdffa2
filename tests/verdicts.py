"""Verdicts on files that pass, kept for a whole run of the tests: of the same bytes against the same reference.

The command line judges the same few healthy files again in most tests. A rejection is never taken from here, and no
verdict is in a test that replaces anything (`monkeypatch`): what it puts in its place may be what judges.
"""

import functools
import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from export.commands import verify
from export.pipeline import judging
from runtimes.artifact import Artifact
from runtimes.runtime import Runtime
from validation import judge as judging_itself
from validation.reference.reference import Reference
from validation.verdict import Verdict, VerifiedArtifact

_NO_MATTER = ("PYTEST_", "XDG_", "VIT_EXPORT_TESTS")
"""Variables in which tests differ without a bearing on any verdict."""


class Switch:
    """Whether the test that runs may be given verdicts."""

    on = False


@contextmanager
def judged_once(folder: Path) -> Iterator[None]:
    """Inside the block, exports and `vit-export verify` take verdicts from `folder`, and keep there what they find."""
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (judging, verify):
            patch.setattr(module, "judge", functools.partial(_judged, folder))
        yield


def _judged(
    folder: Path, artifact: Artifact, against: Reference, runtime: Runtime, *more: Any, **options: Any
) -> Verdict:
    judge = functools.partial(judging_itself.judge, artifact, against, runtime, *more, **options)
    if not Switch.on or options.get("labeled") is not None:
        return judge()
    artifact.require_unchanged()
    kept = folder / _key(artifact, against, runtime, *more, options)
    with FileLock(f"{kept}.lock"):
        if kept.exists():
            verdict: Verdict = pickle.loads(kept.read_bytes())
            return replace(verdict, artifact=artifact)
        verdict = judge()
        if isinstance(verdict, VerifiedArtifact):
            kept.write_bytes(pickle.dumps(verdict))
        return verdict


def _key(artifact: Artifact, against: Reference, runtime: Runtime, *more: Any) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_NO_MATTER)}
    file = replace(artifact, path=Path(), notes=())
    of = (file, against, type(runtime), runtime.name, more, sorted(environment.items()))
    return hashlib.sha256(pickle.dumps(of)).hexdigest()
