"""What `vit-export tune` is asked for, and the exports that it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from efficientvit.errors import BadOption
from efficientvit.size import ImageSize
from export.request.evaluation import Evaluation
from export.request.request import Request, lacking, model_names
from export.targets.int8_options import Int8Options
from export.targets.onnx.calibration import require_calibration
from export.targets.registry import BUILT_IN, TARGETS
from export.targets.target import Job, TargetOptions
from export.tuning.forms import Form, forms_of
from runtimes.host.machine import Host
from runtimes.registry import native_runtime
from validation.budgets import ACCURACY_POINTS, Budgets, require_points
from validation.timing.interleaved import ROUNDS

_TRIED = "tried"
_LABELS = "labels"


def targets_of(names: Sequence[str]) -> tuple[str, ...]:
    """Each once, `all` spelled out; by default those of which every host has the runtime, as far as installed."""
    if not names:
        return tuple(
            name for name in ("onnx", "openvino") if native_runtime(TARGETS[name].format).unavailable() is None
        )
    return tuple(dict.fromkeys(each for name in names for each in (TARGETS if name == "all" else (name,))))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One artifact that may be the best: how it is named, and the export that makes it, of a single job."""

    name: str
    form: Form
    request: Request
    job: Job

    @property
    def target(self) -> str:
        """By name."""
        return self.job.target.name


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A form that is not tried, and why."""

    name: str
    target: str
    precision: str
    why: str


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """One search. `budget`: top-1 that may be lost, percentage points. `precisions` empty: all in the table.

    `named`: those of the targets that somebody asked for by name, and not as one of all or by default. `calibrate`
    None: nothing is tried in int8. `rounds`: of fresh sessions that are timed. `time_limit_s`: after it nothing more is
    made; what was made is still timed.

    Raises:
        BadOption: a value out of range, or options that do not go together.
    """

    model: str
    targets: tuple[str, ...]
    evaluation: Evaluation
    budget: float = ACCURACY_POINTS
    precisions: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    calibrate: str | None = None
    weights: str = "auto"
    ema: bool = False
    override: bool = False
    image_size: ImageSize | None = None
    batch: int = 1
    golden: Path | None = None
    skip_bad_photos: bool = False
    labels: str | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    rounds: int = ROUNDS
    time_limit_s: float | None = None
    out: Path = Path("tuned")

    def __post_init__(self) -> None:
        require_points(self.budget, "--budget")
        if len(names := model_names((self.model,), self.image_size)) != 1:
            raise BadOption(
                "tune searches for one model",
                expected="one of m0 to m5",
                got=", ".join(names),
                next_step="tune one after the other: what they share is taken from the cache",
            )
        lacking(self.targets, self.precisions, self.named)
        if "int8" in self.precisions:
            require_calibration(self.calibrate, "int8")
        elif self.calibrate is not None:
            self._require_int8()

    def _require_int8(self) -> None:
        """Photos for int8, which was not asked for by name: it is among all that there are, or the photos are in vain.

        Raises:
            BadOption: they are; or they cannot be used.
        """
        if not any(form.precision == "int8" for target in self.targets for form in forms_of(target)):
            raise BadOption(
                "--calibrate is for int8",
                expected="a target that is made in int8",
                got=f"-t {' -t '.join(self.targets)}",
                next_step="leave --calibrate out, or add -t onnx or -t openvino",
            )
        require_calibration(self.calibrate, " -p ".join(self.precisions) or "int8")

    @property
    def possible(self) -> tuple[str, ...]:
        """The targets that can be made in a precision that is asked for."""
        return tuple(
            target
            for target in self.targets
            if not self.precisions or any(form.precision in self.precisions for form in forms_of(target))
        )

    def common(self, quality: float | None = None) -> Request:
        """What all candidates share that are judged by one `quality` budget, a relative error; None: the default."""
        return Request(
            (self.model,),
            self.targets,
            weights=self.weights,
            ema=self.ema,
            override=self.override,
            image_size=self.image_size,
            batch=self.batch,
            golden=self.golden,
            skip_bad_photos=self.skip_bad_photos,
            preprocessing=self.preprocessing,
            out=self.out / _TRIED / ("" if quality is None else f"quality-{quality:.3g}"),
            time=False,
            options=self._labels(),
            budgets=Budgets(quality=quality, accuracy=self.budget),
            evaluation=self.evaluation,
        )

    def _labels(self) -> dict[str, TargetOptions]:
        """Of every target that names classes: `--eval` reads them there, whatever is asked for."""
        if self.labels is None:
            return {}
        known = {name: TARGETS[name].options for name in (*BUILT_IN, *self.targets)}
        own = {_LABELS: self.labels}
        return {name: options(**own) for name, options in known.items() if _LABELS in options.flags()}

    def candidates(self, host: Host) -> tuple[list[Candidate], list[LeftOut]]:
        """The first round, those of the table that need nothing known of another; and what is not tried at all.

        Raises:
            BadInput: an unknown model or target, or options that do not go together.
            Unavailable: what makes a target is not installed.
        """
        tried: list[Candidate] = []
        left_out = [
            LeftOut(f"{each.target}-{each.precision}", each.target, each.precision, each.why)
            for each in lacking(self.targets, self.precisions, self.named)
        ]
        for target in self.targets:
            for form in forms_of(target):
                if self.precisions and form.precision not in self.precisions:
                    continue
                name = name_of(target, form)
                if form.precision == "int8" and self.calibrate is None:
                    left_out.append(LeftOut(name, target, form.precision, "int8 needs --calibrate DIR"))
                elif form.reduced and not host.saturates_int8:
                    why = f"this CPU ({host.isa}) does not saturate: 7 bits lose accuracy and gain nothing"
                    left_out.append(LeftOut(name, target, form.precision, why))
                elif form.error is None:
                    tried.append(self.candidate(target, form))
        return tried, left_out

    def candidate(self, target: str, form: Form, quality: float | None = None) -> Candidate:
        """The export that makes it. `quality`: the relative error that it may cost, where that is not the default."""
        common = self.common(quality)
        options = replace(common.options.get(target) or TARGETS[target].options(), **form.options)
        request = replace(
            common,
            targets=(target,),
            precision=form.precision,
            options={**common.options, target: options},
            calibrate=self.calibrate if form.precision == "int8" else None,
            int8=Int8Options(reduce_range=form.reduced),
        )
        (job,) = request.jobs()
        return Candidate(name_of(target, form), form, request, job)


def name_of(target: str, form: Form) -> str:
    """Unique among the forms of all targets: `onnx-int8-reduced`, `coreml-fp16-palette4-ios16`."""
    found = TARGETS[target]
    parts = found.options(**form.options).slug_parts(1)
    more = [*(["reduced"] if form.reduced else []), *parts]
    return "-".join([target, form.precision, *more, *([] if form.error is None else [f"error{form.error:g}"])])
