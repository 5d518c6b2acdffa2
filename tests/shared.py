"""Processes that tests start take weights, traces and PyTorch's answers from what the suite has made, and add to it.

This is put in place once a module that needs it has been imported: other processes pay nothing.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

SHARED = "VIT_EXPORT_TESTS_SHARED"
"""The folder of what the suite has made; empty for a process that makes all of it itself."""


def _traces(_: ModuleType) -> None:
    from tests.traced_once import trace_once

    trace_once(Path(os.environ[SHARED]) / "traced")


def _evaluations(stage_cache: ModuleType) -> None:
    from export.cache.store import Cache

    kept = stage_cache.Evaluations(Cache(Path(os.environ[SHARED]) / "evaluated"))
    setattr(stage_cache, "evaluations", lambda _: kept)  # noqa: B010 - before any other module has it by its name


def _weights(_: ModuleType) -> None:
    from tests.seeded_once import seed_once

    seed_once(Path(os.environ[SHARED]) / "seeded")


_PLACES: dict[str, Callable[[ModuleType], None]] = {
    "efficientvit.weights.seeded": _weights,
    "export.targets.onnx.trace": _traces,
    "export.pipeline.stage_cache": _evaluations,
}


class _Sharing(MetaPathFinder):
    """Finds modules as Python does, and has something done after some of them."""

    def find_spec(self, name: str, path: Sequence[str] | None, _: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _PLACES or (spec := PathFinder.find_spec(name, path)) is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            _PLACES[name](module)

        setattr(spec.loader, "exec_module", executed)  # noqa: B010 - of this module's own loader
        return spec


def share() -> None:
    """In this process, if the one that started it says so."""
    if os.environ.get(SHARED):
        sys.meta_path.insert(0, _Sharing())
