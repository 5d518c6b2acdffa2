"""A `Request` from keywords, as the command line, the Python API and recipes have them."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from efficientvit.errors import BadOption
from efficientvit.head import Head
from efficientvit.size import ImageSize
from export.request.evaluation import evaluation
from export.request.options import OwnOptions, flag, given
from export.request.request import Request, parse_batch
from export.request.target_options import target_options, unknown
from export.targets.int8_options import Int8Options
from export.targets.onnx.opsets import DEFAULT_OPSET
from runtimes.runtime import Evidence
from runtimes.wrapping import LOGITS, Answers, Feed
from validation.budgets import Budgets

_PREPROCESSING = ("resize", "interpolation", "mean", "std")
Chosen = TypeVar("Chosen", bound=Enum)
_AS_THEY_ARE = ("precision", "ema", "override", "skip_bad_photos", "release")


def request_of(models: str | Sequence[str], options: Mapping[str, Any]) -> Request:
    """What the options of an export ask for. `options`: as `ExportOptions` and the installed targets have them.

    Raises:
        TypeError: there is no such option.
        BadInput: options that cannot be used.
    """
    asked = given(dict(options))
    if strange := unknown(asked):
        raise TypeError(f"an export has no option '{strange[0]}'")
    targets = _names(asked.pop("target", "onnx"))
    own = {name: asked.pop(name) for name in OwnOptions.__annotations__ if name in asked}
    budgets = budgets_of(**own)
    read = {name: own[name] for name in _PREPROCESSING if name in own}
    return Request(
        models=_names(models),
        targets=targets,
        weights=str(own.get("weights", "auto")),
        image_size=size_of(own["image_size"]) if "image_size" in own else None,
        batch=parse_batch(str(own.get("batch", 1))),
        opset=own.get("opset", DEFAULT_OPSET),
        head=Head.parse(own.get("head", "logits")),
        feed=Feed.parse(own["input"]) if "input" in own else None,
        answers=Answers.parse(own["output"]) if "output" in own else LOGITS,
        preprocessing={name: _preprocessing(name, value) for name, value in read.items()},
        golden=Path(own["golden"]) if "golden" in own else None,
        calibrate=str(own["calibrate"]) if "calibrate" in own else None,
        int8=Int8Options(reduce_range="reduce_range" in own, all_int8="all_int8" in own),
        require=evidence_of(own.get("require", "reference")),
        budgets=budgets,
        evaluation=evaluation(Path(own["eval"]) if "eval" in own else None, budgets),
        time="no_time" not in own,
        kit="no_kit" not in own,
        out=Path(own.get("out", "exports")),
        options=target_options(asked, targets),
        **{name: own[name] for name in _AS_THEY_ARE if name in own},
    )


def budgets_of(
    *,
    quality_budget: float | None = None,
    accuracy_budget: float | None = None,
    latency_budget: float | None = None,
    load_budget: float | None = None,
    memory_budget: float | None = None,
    size_budget: float | None = None,
    **_: object,
) -> Budgets:
    """By the names of the options; the others are left to others.

    Raises:
        BadOption: a value out of range.
    """
    return Budgets(
        quality_budget,
        accuracy_budget,
        latency_ms=latency_budget,
        load_ms=load_budget,
        memory_mb=memory_budget,
        size_mb=size_budget,
    )


def choice(kind: type[Chosen], value: object, option: str) -> Chosen:
    """The member of `kind` that an option names.

    Raises:
        BadOption: there is none.
    """
    try:
        return kind(value)
    except ValueError as error:
        raise BadOption(
            f"{option} has no '{value}'",
            expected=" or ".join(each.value for each in kind),
            got=str(value),
            next_step=f"leave {option} out for the default",
        ) from error


def evidence_of(name: str) -> Evidence:
    """What `--require` names.

    Raises:
        BadOption: none of the four.
    """
    return choice(Evidence, name, "--require")


def size_of(value: int | str | ImageSize) -> ImageSize:
    """`N` for a square, or `HxW`.

    Raises:
        BadOption: neither.
    """
    return value if isinstance(value, ImageSize) else ImageSize.parse(str(value))


def _preprocessing(name: str, value: Any) -> Any:
    match name:
        case "resize":
            return size_of(value)
        case "interpolation":
            return value
    try:
        return tuple(float(each) for each in value)
    except (TypeError, ValueError) as error:
        raise BadOption(
            f"{flag(name)} cannot be used",
            expected="three numbers: red, green, blue",
            got=repr(value),
            next_step=f"leave {flag(name)} out for what the checkpoint says",
        ) from error


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
