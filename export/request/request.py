"""What the user asked for, checked: one `Request` per command, one `Job` per artifact."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from efficientvit.errors import BadOption
from efficientvit.head import CLASSIFIER, Head
from efficientvit.size import ImageSize
from efficientvit.spec import MODELS, PUBLISHED_SIZE, model_spec
from export.request.evaluation import Evaluation
from export.targets.int8_options import Int8Options
from export.targets.onnx.calibration import require_calibration
from export.targets.onnx.opsets import DEFAULT_OPSET, require_opset
from export.targets.registry import TARGETS, find_target
from export.targets.target import Job, Target, TargetOptions
from export.targets.wrapping import require_wrapping
from runtimes.precision import Dtype
from runtimes.runtime import Evidence
from runtimes.wrapping import LOGITS, TENSOR, Answers, Feed
from validation.budgets import Budgets, require_compressed

_LARGEST_BATCH = 1024
DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class Request:
    """One export command. `preprocessing` holds the fields of `Preprocessing` that are not to be the default.

    `ema`: the running average in the weights' file. `override`: options may contradict what the checkpoint says of its
    input. `options`: a target's own, by its name. `precisions`, in the place of `precision`: each target in each of
    these that it has. `defaults`: what ships is tried under its runtime's own settings as well. `feed`: what the files
    take, None for each target's own default; `answers`: what they give beside the logits.
    """

    models: tuple[str, ...]
    targets: tuple[str, ...]
    precision: str | None = None
    weights: str = "auto"
    ema: bool = False
    override: bool = False
    image_size: ImageSize | None = None
    batch: int | None = 1
    opset: int = DEFAULT_OPSET
    golden: Path | None = None
    skip_bad_photos: bool = False
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    out: Path = Path("exports")
    require: Evidence = Evidence.REFERENCE
    time: bool = True
    release: bool = False
    options: Mapping[str, TargetOptions] = field(default_factory=dict)
    calibrate: str | None = None
    budgets: Budgets = field(default_factory=Budgets)
    kit: bool = True
    report: bool = True
    defaults: bool = True
    precisions: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    int8: Int8Options = field(default_factory=Int8Options)
    head: Head = CLASSIFIER
    feed: Feed | None = None
    answers: Answers = LOGITS

    @property
    def required(self) -> Evidence:
        """A release needs the real runtime's word."""
        return Evidence.NATIVE if self.release else self.require

    def jobs(self, *, installed: bool = True) -> tuple[Job, ...]:
        """Every artifact asked for, models first; nothing is made before all of them are known to be possible.

        `installed`: refuse what lacks a package too.

        Raises:
            BadInput: an unknown model or target, or options that do not go together.
            Unavailable: what makes a target is not installed.
        """
        models = model_names(self.models, self.image_size)
        targets = [find_target(name) for name in dict.fromkeys(_expanded(self.targets, TARGETS))]
        require_opset(self.opset, int8="int8" in {each for target in targets for each in self._precisions(target)})
        if self.release and self.golden is None:
            raise BadOption(
                "--release needs photos to check with",
                expected="--golden DIR with photos like those that the app will see",
                got="no --golden",
                next_step="put some dozen of them into a folder and name it with --golden",
            )
        if self.release and self.weights.startswith("seeded"):
            raise BadOption(
                "--release needs trained weights",
                expected="-w pretrained or -w FILE",
                got=f"-w {self.weights}",
                next_step="name your checkpoint with -w, or leave --release out for a trial",
            )
        if self.evaluation is not None and not self.head.gives_logits:
            raise BadOption(
                "--eval measures top-1 accuracy, which only a classifier has",
                expected="--head logits with --eval",
                got=f"--head {self.head}",
                next_step="leave --eval out: maps and embeddings are compared with the reference, value by value",
            )
        if self.budgets.spends and not self.time:
            raise BadOption(
                f"{' and '.join(self.budgets.spends)} cannot be decided without a measurement",
                expected="no --no-time with it",
                got="--no-time",
                next_step="leave one of the two out",
            )
        jobs = tuple(
            self._job(model, target, precision)
            for model in models
            for target in targets
            for precision in self._precisions(target)
        )
        self._require_used(jobs, targets)
        for target in targets if installed else ():
            target.require_installed()
        return jobs

    @property
    def common(self) -> tuple[object, ...]:
        """What a model is prepared with: artifacts of requests that agree in it can be made of the same preparation."""
        own = ("models", "targets", "precision", "precisions", "batch", "opset", "options", "calibrate", "int8", "feed")
        kept = (each.name for each in fields(self) if each.name not in (*own, "answers"))
        return (self.labels, *(str(getattr(self, name)) for name in kept))

    @property
    def labels(self) -> str | None:
        """The classes' names for `--eval`, as a target's own option has them."""
        given = (getattr(own, name) for own in self.options.values() for name in _for_labeled_images(own))
        return next((value for value in given if value is not None), None)

    def _require_used(self, jobs: Sequence[Job], targets: Sequence[Target]) -> None:
        """An option that changes nothing of what was asked for is a mistake."""
        for name, own in self.options.items():
            shared = _for_labeled_images(own) if self.evaluation is not None else []
            given = [flag.name for field_name, flag in own.given().items() if field_name not in shared]
            if given and name not in {target.name for target in targets}:
                raise BadOption(
                    f"options for {find_target(name).title}, and none is to be made",
                    expected=f"-t {name}",
                    got=f"-t {' -t '.join(self.targets)}",
                    next_step=f"add -t {name}, or leave {' and '.join(given)} out",
                )
        int8 = [job.plan[-1][1] for job in jobs if job.int8 is not None]
        of_onnx = any(made.weights is Dtype.INT7 for made in int8)
        for option, asked, used, of, it in (
            ("--reduce-range", self.int8.reduce_range, of_onnx, "int8 files of ONNX Runtime", "-t onnx -p int8"),
            ("--all-int8", self.int8.all_int8, bool(int8), "int8 files", "-p int8"),
        ):
            if asked and not used:
                raise BadOption(
                    f"{option} is for {of}",
                    expected=f"{it} with it",
                    got="no such artifact",
                    next_step=f"add {it}, or leave {option} out",
                )
        if self.budgets.quality is not None:
            require_compressed(compressed=any(job.plan[-1][1].weights.compressed for job in jobs))

    def _precisions(self, target: Target) -> tuple[str, ...]:
        if self.precisions:
            return tuple(name for name in self.precisions if name in target.precisions)
        return (self.precision or target.default_precision,)

    def _job(self, model: str, target: Target, precision: str) -> Job:
        if self.batch is None and not target.dynamic_batch:
            raise BadOption(
                f"target '{target.name}' has no dynamic batch",
                expected="--batch N",
                got="--batch dynamic",
                next_step="export once for each batch size that the app uses",
            )
        if precision not in target.precisions:
            raise cannot_be_made(target, precision, f"leave -p out for {target.default_precision}")
        target.require_head(self.head, precision)
        calibrate = None if self.precisions and precision != "int8" else self.calibrate
        require_calibration(calibrate, precision)
        own, feed = (self.options.get(target.name) or target.options()).fed(self.feed)
        int8 = self.int8 if precision == "int8" else None
        job = Job(model, target, precision, self.batch, self.opset, own, calibrate, int8, self.head, feed, self.answers)
        own.check(job)
        require_wrapping(job)
        return job


def cannot_be_made(target: Target, precision: str, next_step: str) -> BadOption:
    """The error of a target that was asked for in a precision that it does not have."""
    return BadOption(
        f"target '{target.name}' cannot be made in {precision}",
        expected=" or ".join(target.precisions),
        got=precision,
        next_step=f"{next_step}, or name a target that has {precision}",
    )


@dataclass(frozen=True, slots=True)
class Lacking:
    """A target and a precision that were asked for with others, and do not go together."""

    target: str
    precision: str
    why: str


def lacking(targets: Sequence[str], precisions: Sequence[str], named: Sequence[str]) -> tuple[Lacking, ...]:
    """Of every target in every precision, what cannot be made; at least one can. `named`: targets asked for by name.

    Raises:
        BadOption: nothing at all can be made in one of the precisions, or a target that was named in none of them.
    """
    known = {name: find_target(name) for name in targets}
    every = tuple(dict.fromkeys(each for target in known.values() for each in target.precisions))
    if unknown := [each for each in precisions if each not in every]:
        raise BadOption(
            f"none of the targets can be made in {' or '.join(unknown)}",
            expected=", ".join(every),
            got=", ".join(precisions),
            next_step="leave -p out for all that there are",
        )
    for name in named:
        if precisions and not set(precisions) & set(known[name].precisions):
            raise cannot_be_made(known[name], " or ".join(precisions), f"leave -t {name} or -p out")
    return tuple(
        Lacking(name, each, f"{name} is made in {', '.join(target.precisions)} only")
        for name, target in known.items()
        for each in precisions
        if each not in target.precisions
    )


def model_names(names: Sequence[str], image_size: ImageSize | None = None) -> tuple[str, ...]:
    """`m0` to `m5`, each once, `all` spelled out.

    Raises:
        UnknownModel: a name is none of the family's.
        BadOption: the size cannot be used.
    """
    return tuple(dict.fromkeys(model_spec(name, image_size).name for name in _expanded(names, MODELS)))


def parse_batch(text: str) -> int | None:
    """`N` or `dynamic`.

    Raises:
        BadOption: neither, or out of range.
    """
    if text == DYNAMIC:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _LARGEST_BATCH:
        return int(text)
    raise BadOption(
        f"batch '{text}' cannot be used",
        expected=f"1 to {_LARGEST_BATCH}, or {DYNAMIC}",
        got=text,
        next_step="leave --batch out for 1, which a phone takes",
    )


def slug(job: Job, image_size: ImageSize, weights: str) -> str:
    """The name of the artifact's folder: every option that is not the default and changes the file, in a fixed order.

    `m2-onnx-fp32`, `m2-384-b8-openvino-fp16`, `m2-480x640-onnx-fp32`, `m0-coreml-fp16-palette4-ios16-untrained`;
    `weights` is the suffix that their source asks for.
    """
    parts = [job.model]
    if image_size != PUBLISHED_SIZE:
        parts.append(str(image_size))
    if not job.head.gives_logits:
        parts.append(re.sub("[:,]", "-", str(job.head)))
    if job.batch != 1:
        parts.append(DYNAMIC if job.batch is None else f"b{job.batch}")
    if job.opset != DEFAULT_OPSET:
        parts.append(f"opset{job.opset}")
    parts += [job.target.name, job.precision]
    if job.int8 is not None and any(made.weights is Dtype.INT7 for _, made in job.plan):
        parts += job.int8.slug_parts()
    parts += job.options.slug_parts(job.batch)
    parts += [re.sub(":", "-", str(each)) for each in (job.feed, job.answers) if each not in (TENSOR, LOGITS)]
    if weights:
        parts.append(re.sub(r"[^A-Za-z0-9_.-]+", "_", weights))
    return "-".join(parts)


def _for_labeled_images(own: TargetOptions) -> list[str]:
    return [name for name, flag in own.flags().items() if flag.for_labeled_images]


def _expanded(names: Sequence[str], family: Iterable[str]) -> tuple[str, ...]:
    return tuple(entry for name in names for entry in (family if name == "all" else (name,)))
