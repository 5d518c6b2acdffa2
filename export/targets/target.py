"""A target as data: format, stages for each precision, options. docs/adding-a-target.md walks through one."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from efficientvit.errors import BadOption
from efficientvit.head import CLASSIFIER, Head
from export.targets.int8_options import Int8Options
from export.targets.options import Flag, flags_of
from export.targets.workshop import Workshop
from export.workers.gc_freeze import collector_at_rest
from runtimes.artifact import Artifact, Format
from runtimes.host.packages import missing
from runtimes.precision import Precision
from runtimes.wrapping import LOGITS, TENSOR, Answers, Feed, Takes

API = 3
"""What a target of an installed package is written for; raised when `Target`, `Stage`, `TargetOptions` or what sessions
give change: 3 is the first whose `TargetOptions` is here and whose `Target` has `wrap`."""

Make = Callable[[Workshop, "Job", Precision, Artifact | None], Artifact]
"""What a stage does: from the artifact of the stage before it, None for the first, to its own."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step from the model to the artifact. Converters are imported by `make`, when it is called.

    `shared`: the file depends on the batch and the opset alone, so that every target of a run takes the same.
    `depends`: what else the file depends on, beyond the weights, the source and the job, for the cache's key.
    `reads`: the job without what this stage does not read: jobs of a run that are alike in the rest take one file.
    `wraps`: it only puts something around what the stage before it made.
    """

    name: str
    make: Make
    shared: bool = False
    depends: Callable[[Workshop, "Job", Precision], Mapping[str, object]] | None = None
    wraps: bool = False
    reads: "Callable[[Job], Job] | None" = None

    def __call__(self, shop: Workshop, job: "Job", made: Precision, source: Artifact | None) -> Artifact:
        """Make the artifact in a new file of the workshop."""
        with collector_at_rest():
            return self.make(shop, job, made, source)

    def __repr__(self) -> str:
        return self.name


Plan = tuple[tuple[Stage, Precision], ...]
"""Stages in order, and the precision of what each makes; the last one's is what ships."""


class HandedOver(NamedTuple):
    """What a section of the manifest is filled from.

    `final`: of the last stage that was run. `passed`: the last that was not rejected. `place`: the folder that the
    final artifact lies in, within the export's. `labels`: the file that its class labels are written to, if it has any.
    """

    job: "Job"
    final: Artifact | None
    passed: Artifact | None
    place: str | None
    labels: str | None = None


class Section(NamedTuple):
    """A target's section of the manifest, under the target's name: a msgspec.Struct, and what fills it."""

    type: type
    fill: Callable[[HandedOver], Any]


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What can be asked of a target beyond its precision; this class itself for a target without options.

    A subclass checks single values in `__post_init__`, and overrides what its options change. Equal options make the
    same artifact: what they are is part of the cache's key, by their repr and by `files`.
    """

    @classmethod
    def of(cls, job: "Job") -> Self:
        """The job's options, as this target's stages know them."""
        assert isinstance(job.options, cls)
        return job.options

    @classmethod
    def flags(cls) -> Mapping[str, Flag]:
        """Every flag by its field."""
        return flags_of(cls)

    @classmethod
    def recorded(cls) -> "Section":
        """A section of the manifest with all of them, by field, for a target that has nothing else to record."""
        from export.targets.recorded import record_of

        record = record_of(cls)
        return Section(
            record, lambda handed: record(**{name: getattr(handed.job.options, name) for name in cls.flags()})
        )

    def given(self) -> Mapping[str, Flag]:
        """The flags of the fields that are not at their default."""
        defaults = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        return {name: flag for name, flag in self.flags().items() if getattr(self, name) != defaults.get(name)}

    def check(self, job: "Job") -> None:
        """Refuse what the job cannot be.

        Raises:
            BadOption: these options don't go with the job's batch or precision.
        """

    def check_classes(self, classes: int, batch: int | None) -> None:
        """Refuse what the weights cannot be; called when they are there.

        Raises:
            BadOption: these options don't go with that many classes.
        """

    def slug_parts(self, batch: int | None) -> list[str]:
        """What is not the default and changes the artifact, for the folder's name."""
        return []

    def files(self) -> tuple[Path, ...]:
        """Files that the artifact depends on."""
        return ()

    def fed(self, feed: Feed | None) -> tuple[Self, Feed]:
        """These options with `--input`, where they have one of their own, and what is left to wrap around the network.

        Raises:
            BadOption: such an artifact takes no such input.
        """
        return self, feed or TENSOR

    @property
    def reproducible(self) -> bool:
        """The same options make the same artifact. False: nothing is kept in the cache."""
        return True

    @property
    def takes_image(self) -> bool:
        """The artifact takes an 8-bit RGB image in place of a tensor."""
        return False

    @property
    def readiness_budget(self) -> float | None:
        """The least share of the work that must be fit for the accelerator; None: it is only reported."""
        return None


def _as_it_is(_: "Job", plan: Plan) -> Plan:
    return plan


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """One kind of artifact.

    Args:
        name: as `--target` takes it.
        title: what it makes, in the plural, for sentences.
        format: of the artifact; its runtime is in `runtimes/registry.py`.
        suffix: of the artifact's file or folder.
        precisions: what `--precision` takes, and how it is made; the first is the default.
        packages: modules any one of which is needed; `vit-export doctor` shows the first.
        extra: of vit-export, with which they are installed.
        distributions: whose versions the manifest lists under `tools`.
        dynamic_batch: `--batch dynamic` can be asked for.
        options: what else can be asked for.
        adapt: the plan of a precision, as the job's options change it.
        section: loads the section of the manifest.
        evidence: files beside the artifact that the export's `evidence` folder gets.
        heads: the precisions in which it can be made of other heads than a classifier's.
        feeds: what `--input` can ask for.
        wrap: the stage that puts preprocessing and answers around a network, where its format can hold them.
        instead: what to do in the place of an input or output that it does not have, for a message.
        api: the version of this interface that the target is written for.
    """

    name: str
    title: str
    format: Format
    suffix: str
    precisions: Mapping[str, Plan]
    packages: tuple[str, ...]
    extra: str | None = None
    distributions: tuple[str, ...] = ()
    dynamic_batch: bool = False
    options: type[TargetOptions] = TargetOptions
    adapt: Callable[["Job", Plan], Plan] = _as_it_is
    section: Callable[[], Section] | None = None
    evidence: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    feeds: tuple[Takes, ...] = (Takes.TENSOR,)
    wrap: Stage | None = None
    instead: str = "preprocess in the app"
    api: int = API

    def __post_init__(self) -> None:
        if (self.wrap is None) != (self.feeds == (Takes.TENSOR,)):
            raise ValueError(f"target '{self.name}' takes {', '.join(self.feeds)}: more than a tensor needs `wrap`")

    def require_installed(self) -> None:
        """Find out before any work that what makes the artifact is not there.

        Raises:
            Unavailable: none of the packages is installed.
        """
        absent = [missing(package, self.extra, f"making {self.title}") for package in self.packages]
        if absent and absent[0] is not None and all(absent):
            raise absent[0]

    def require_head(self, head: Head, precision: str) -> None:
        """Find out before any work that it cannot be made with this head.

        Raises:
            BadOption: the head is not a classifier's, and the target or the precision is for classifiers alone.
        """
        if head.gives_logits or precision in self.heads:
            return
        instead = f"-p {' or '.join(self.heads)}" if self.heads else "--head logits"
        raise BadOption(
            f"target '{self.name}' cannot be made in {precision} with --head {head}",
            expected=f"{instead}{'' if self.heads else ', all that this target has'}",
            got=f"-p {precision} --head {head}",
            next_step=f"add {instead}" if self.heads else "name another target, such as -t onnx",
        )

    @property
    def default_precision(self) -> str:
        """The one taken when none is asked for."""
        return next(iter(self.precisions))

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Job:
    """One artifact to make. `batch` None means dynamic; `calibrate` and `int8` are None for all but int8."""

    model: str
    target: Target
    precision: str
    batch: int | None
    opset: int
    options: TargetOptions = field(default_factory=TargetOptions)
    calibrate: str | None = None
    int8: Int8Options | None = None
    head: Head = CLASSIFIER
    feed: Feed = TENSOR
    answers: Answers = LOGITS

    @property
    def wrapped(self) -> bool:
        """Something is put around its network."""
        return (self.feed, self.answers) != (TENSOR, LOGITS)

    @property
    def variant(self) -> str:
        """What tells its files from another job's, within one model."""
        int8 = () if self.int8 is None else self.int8.slug_parts()
        own = (*int8, *self.options.slug_parts(self.batch))
        return "-".join(map(str, (self.batch, self.opset, self.target.name, self.precision, *own)))

    @property
    def image_input(self) -> bool:
        """It takes an 8-bit image in place of a tensor."""
        return self.options.takes_image

    @property
    def plan(self) -> Plan:
        """The stages in order, and what each makes; the last one's is what ships."""
        plan = self.target.precisions[self.precision]
        if self.int8 is not None:
            plan = tuple((stage, self.int8.typed(made)) for stage, made in plan)
        plan = self.target.adapt(self, plan)
        if not self.wrapped or self.target.wrap is None:
            return plan
        return (*plan, (self.target.wrap, plan[-1][1]))
