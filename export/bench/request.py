"""What `vit-export bench` is asked for, and which of it can be had."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from efficientvit.errors import BadOption
from efficientvit.size import ImageSize
from efficientvit.spec import PUBLISHED_SIZE
from efficientvit.weights.source import Weights
from export.request.request import Lacking, Request, lacking
from export.targets.onnx.calibration import GOLDEN, require_calibration
from export.targets.registry import TARGETS
from runtimes.registry import native_runtime
from validation.budgets import Budgets
from validation.timing.interleaved import ROUNDS

TIMED = ("onnx", "openvino")
"""Targets whose real runtime every host has."""

_PAPERS_ROUNDS = 3  # two hundred artifacts: each round takes minutes


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to compare. `precisions` empty: all that each target has, int8 only where there is a calibration.

    `stock`: timm's own export as well. `peers`: and what other tools make of it with the same photos, of our models.
    `pytorch`: and timm's model in PyTorch itself. `paper`: and the models that the
    paper compares itself with, int8 calibrated on the golden images unless `calibrate` names photos.
    `named`: somebody asked for the targets by name. `streams`: numbers of streams whose throughput is measured too.
    `read`: models' weights, by name, in place of those that `weights` names.
    """

    models: tuple[str, ...]
    targets: tuple[str, ...] = TIMED
    precisions: tuple[str, ...] = ()
    named: bool = False
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    weights: str = "auto"
    ema: bool = False
    override: bool = False
    image_size: ImageSize | None = None
    calibrate: str | None = None
    skip_bad_photos: bool = False
    budgets: Budgets = field(default_factory=Budgets)
    stock: bool = False
    peers: bool = False
    pytorch: bool = False
    paper: bool = False
    rounds: int = ROUNDS
    streams: tuple[int, ...] = ()
    out: Path = Path("bench")
    read: Mapping[str, Weights] = field(default_factory=dict)

    def with_defaults(self) -> "BenchRequest":
        """Where nothing was said: the targets that are installed, batches and rounds as `paper` has them or not.

        Raises:
            BadOption: no model was named, or a size that the paper says nothing of.
        """
        if not self.models and not self.paper:
            raise BadOption(
                "there is no model to time",
                expected="one or more of m0 to m5, or all, or --paper",
                got="none",
                next_step="name a model: vit-export bench m2",
            )
        if self.paper and self.image_size not in (None, PUBLISHED_SIZE):
            raise BadOption(
                "--paper compares with figures for one image size",
                expected=f"--image-size {PUBLISHED_SIZE}, the paper's",
                got=f"--image-size {self.image_size}",
                next_step="leave --image-size out, or compare with timm's own by --stock",
            )
        installed = tuple(name for name in TIMED if native_runtime(TARGETS[name].format).unavailable() is None)
        return replace(
            self,
            models=self.models or ("all",),
            targets=self.targets or installed,
            batches=self.batches or ((1, 16) if self.paper else (1,)),
            threads=self.threads or (1,),
            rounds=self.rounds or (_PAPERS_ROUNDS if self.paper else ROUNDS),
            stock=self.stock or self.paper,
            pytorch=self.pytorch or self.paper,
        )

    @property
    def made(self) -> tuple[str, ...]:
        """The precisions that ours are made in.

        Raises:
            BadOption: a target or a precision that cannot be timed here, or photos that nothing is calibrated on.
        """
        for target in self.targets:
            if target not in TIMED:
                raise BadOption(
                    f"target '{target}' cannot be timed on any host",
                    expected=" or ".join(TIMED),
                    got=target,
                    next_step="Core ML packages and engines are timed on their device, by the kit beside them",
                )
        _ = self.left_out  # of what is in none of them, the error
        known = tuple(dict.fromkeys(name for target in self.targets for name in TARGETS[target].precisions))
        calibrated = self.calibrate is not None or self.paper
        # Of the paper's comparison each is as fast as it passes, and CPUs don't compute in fp16.
        left_out = {*(() if calibrated else ("int8",)), *(("fp16",) if self.paper else ())}
        made = self.precisions or tuple(name for name in known if name not in left_out)
        if "int8" not in made and not (self.peers and self.calibrate is None):
            require_calibration(self.calibrate, "int8" if self.peers else " -p ".join(made))
        return made

    @property
    def left_out(self) -> tuple[Lacking, ...]:
        """What of the targets and precisions asked for does not go together.

        Raises:
            BadOption: nothing can be made in a precision, or a target that was named in none of them.
        """
        return lacking(self.targets, self.precisions, self.targets if self.named else ())

    @property
    def calibration(self) -> str | None:
        """What int8 is calibrated on, ours or that of other tools, where any is made."""
        if "int8" not in self.made and not self.peers:
            return None
        return self.calibrate or (GOLDEN if self.paper else None)

    def export(self, model: str, batch: int) -> Request:
        """One model for every target in every precision: what they share is made once.

        Raises:
            BadOption: as `made`.
        """
        return Request(
            (model,),
            self.targets,
            precisions=self.made,
            weights=self.weights,
            ema=self.ema,
            override=self.override,
            image_size=self.image_size,
            batch=batch,
            out=self.artifacts,
            time=False,
            kit=False,
            report=False,
            defaults=False,
            calibrate=self.calibration if "int8" in self.made else None,
            skip_bad_photos=self.skip_bad_photos,
            budgets=self.budgets,
        )

    @property
    def artifacts(self) -> Path:
        """Where everything that is made is kept."""
        return self.out / "artifacts"
