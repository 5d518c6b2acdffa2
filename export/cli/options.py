"""The options that decide what reduced precision may cost, for `export` and `verify`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_EVAL = click.option(
    "--eval",
    "eval_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Labeled images, a sub-folder for each class (index or label): accuracy beside the reference's, a gate.",
)
_BUDGET = click.option(
    "--accuracy-budget",
    type=float,
    metavar="POINTS",
    help="With --eval: top-1 that may be lost against the reference, percentage points. [default: 0.5]",
)
_REDUCE = click.option(
    "--reduce-range",
    is_flag=True,
    help="-t onnx -p int8: weights in 7 bits, for x86 without VNNI, where 8 bits saturate (`doctor` says).",
)
_ALL = click.option(
    "--all-int8",
    is_flag=True,
    help="-t onnx -p int8: reject what is over its budget; don't leave the layers in float32 that cost the most.",
)
_LABELS = click.option(
    "--labels",
    metavar="FILE",
    help="With --eval: the classes' names, one a line. [default: the folder's, or ImageNet's]",
)
_SKIP = click.option("--skip-bad-photos", is_flag=True, help="Use the rest of --eval where a file is no image.")

Decorator = Callable[[Any], Any]


def for_export(command: Any) -> Any:
    """`--eval`, `--accuracy-budget`, `--reduce-range` and `--all-int8`."""
    return _with(command, _EVAL, _BUDGET, _REDUCE, _ALL)


def for_verify(command: Any) -> Any:
    """`--eval` and what goes with it."""
    return _with(command, _EVAL, _BUDGET, _LABELS, _SKIP)


def _with(command: Any, *options: Decorator) -> Any:
    for option in reversed(options):
        command = option(command)
    return command
