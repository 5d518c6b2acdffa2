"""The Python API: what the command line does, as functions. docs/api.md has examples.

    from export import api

    found = api.export("m2", target="onnx", weights="best.pth", golden="photos")
    assert found.exit_code == 0, found.to_json()

A keyword is the command line's option without its dashes: `--image-size` is `image_size`. A result has `exit_code`,
what the command would exit with, and `to_json()`, what it would print with `--json`; as the last value of a notebook's
cell it shows its verdict. Errors are raised (`efficientvit.errors`), nothing is printed, and `progress` is told what
goes on: a function of one line of text, or an object as `export.workers.progress.Progress`.

Importing it loads no heavy package: the functions do, when they are called.
"""

from export.api.artifacts import export, predict
from export.api.releases import plan, release
from export.api.search import bench, recover, tune
from export.api.verdicts import diff, explain, judge, selftest, verify
from export.request.options import ExportOptions
from export.workers.progress import Progress

__all__ = [
    "ExportOptions",
    "Progress",
    "bench",
    "diff",
    "explain",
    "export",
    "judge",
    "plan",
    "predict",
    "recover",
    "release",
    "selftest",
    "tune",
    "verify",
]
