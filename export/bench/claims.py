"""What the paper says of speed as ONNX, beside what a benchmark here says of the same pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from efficientvit.size import ImageSize
from efficientvit.spec import PUBLISHED_SIZE
from export.bench.baselines import BASELINES, STOCK
from export.bench.measured import Measured, Row
from export.bench.peers import RIVALS
from export.bench.pytorch import TARGET as PYTORCH

_BEST = "best verified"

NEAR = 0.1
"""A claim holds although a ratio falls short of the paper's by this share: no timing here is worth more."""

BASELINE_TOP1 = {"mobilenetv2_100": 72.0, "mobilenetv3_large_100": 75.2, "mobilevit_xxs": 69.0}
"""ImageNet top-1 in % by the paper's own comparisons: M3 is 1.4 above MobileNetV2 (section 4.2), M5 1.9 above
MobileNetV3-Large and M2 1.8 above MobileViT-XXS (abstract). Of EfficientNet-B0 it says only that M5 is comparable."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How many times as fast the first is as the second. `paper`: the authors' figure, where they have one."""

    first: str
    second: str
    target: str
    first_form: str
    second_form: str
    paper: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A claim at one batch and number of threads, and the rows that it is about."""

    claim: Claim
    first: Row
    second: Row

    @property
    def ratio(self) -> float:
        """Time of the second over time of the first, by their medians."""
        return self.second.timing.median_ms / self.first.timing.median_ms

    @property
    def noisy(self) -> bool:
        """One of the two cannot be trusted to a tenth, and so the verdict cannot."""
        return self.first.timing.noisy or self.second.timing.noisy

    @property
    def holds(self) -> bool | None:
        """An advantage at least as large as the paper's, or a handicap no larger, within `NEAR`; None: it has none."""
        paper = self.claim.paper
        if paper is None:
            return None
        return self.ratio >= (1 - NEAR) * paper and (paper > 1 or self.ratio < 1)

    @property
    def verdict(self) -> str:
        """The same in words; empty where the paper claims nothing."""
        paper = self.claim.paper
        if paper is None:
            return ""
        unsure = "; noisy: measure again" if self.noisy else ""
        if self.holds:
            return f"holds here{unsure}"
        if self.ratio >= 1:
            how = "faster, by less" if paper > 1 else "faster, not slower"
        else:
            how = "slower, not faster" if paper > 1 else "slower by more"
        return f"does not hold here: {how}{unsure}"


# The paper, sections 1 and 4.2 and table 2. As ONNX, M5 is 11.5 % slower than MobileNetV3-Large, M2 7.4 times as fast
# as MobileViT-XXS and M5 2.1 times as fast as EfficientNet-B0; in PyTorch on a CPU (BatchNorm folded, traced, batch 16,
# one thread), 1.452 times, 3.7 times and 1.9 times, and M3 3.0 times as fast as MobileNetV2.
CLAIMS = (
    Claim("m5", "mobilenetv3_large_100", "onnx", STOCK, STOCK, 0.885),
    Claim("m5", "mobilenetv3_large_100", "onnx", "fp32", "fp32"),
    Claim("m5", "mobilenetv3_large_100", "onnx", _BEST, _BEST),
    Claim("m5", "mobilenetv3_large_100", "openvino", _BEST, _BEST),
    Claim("m2", "mobilevit_xxs", "onnx", STOCK, STOCK, 7.4),
    Claim("m2", "mobilevit_xxs", "onnx", _BEST, STOCK),
    Claim("m2", "mobilevit_xxs", "onnx", _BEST, _BEST),
    Claim("m5", "efficientnet_b0", "onnx", STOCK, STOCK, 2.1),
    Claim("m5", "mobilenetv3_large_100", PYTORCH, "eager", "eager", 1.452),
    Claim("m2", "mobilevit_xxs", PYTORCH, "eager", "eager", 3.7),
    Claim("m3", "mobilenetv2_100", PYTORCH, "eager", "eager", 3.0),
    Claim("m5", "efficientnet_b0", PYTORCH, "eager", "eager", 1.9),
)


def papers_size(model: str) -> ImageSize:
    """Of the images that the paper's figures of a model, ours or a baseline's, are for."""
    return BASELINES.get(model, PUBLISHED_SIZE)


def compared(bench: Measured) -> Iterator[Compared]:
    """Every claim of which both sides were timed, at every batch and number of threads that they share."""
    comparable = [row for row in bench.rows if row.image_size == papers_size(row.model)]
    for claim in CLAIMS:
        for batch, threads in sorted({(row.batch, row.threads) for row in comparable}):
            rows = [row for row in comparable if (row.batch, row.threads) == (batch, threads)]
            first = _fastest(rows, claim.first, claim.target, claim.first_form)
            second = _fastest(rows, claim.second, claim.target, claim.second_form)
            if first is not None and second is not None:
                yield Compared(claim, first, second)


def unmeasured(bench: Measured) -> Iterator[Claim]:
    """The paper's claims of which both models took part, and one not in the form that the claim is about."""
    models = {row.model for row in bench.rows if row.image_size == papers_size(row.model)}
    found = [each.claim for each in compared(bench)]
    for claim in CLAIMS:
        if claim.paper is not None and {claim.first, claim.second} <= models and claim not in found:
            yield claim


def not_compared(rows: Sequence[Row]) -> Iterator[str]:
    """Why no claim of a model is compared although both sides were timed: it takes images of another size."""
    models = {row.model for row in rows}
    sizes = {row.model: row.image_size for row in rows}
    for model in dict.fromkeys(claim.first for claim in CLAIMS if {claim.first, claim.second} <= models):
        if sizes[model] != papers_size(model):
            yield (
                f"{model} takes images of {sizes[model]} pixels, the paper's figures are for {papers_size(model)}: "
                "none of its claims is compared"
            )


def _fastest(rows: list[Row], model: str, target: str, form: str) -> Row | None:
    own = [row for row in rows if (row.model, row.target) == (model, target) and row.precision not in RIVALS]
    chosen = [row for row in own if form in (row.precision, _BEST)]
    return min(chosen, key=lambda row: row.timing.median_ms, default=None)
