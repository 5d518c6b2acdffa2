"""What the paper says of speed as ONNX, beside what a benchmark here says of the same pairs."""

from collections.abc import Iterator
from dataclasses import dataclass

from export.baselines import STOCK
from export.bench import Bench, Row

_BEST = "best verified"


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


# The paper: as ONNX, M5 is 11.5 % slower than MobileNetV3-Large, and M2 7.4 times as fast as MobileViT-XXS.
CLAIMS = (
    Claim("m5", "mobilenetv3_large_100", "onnx", STOCK, STOCK, 0.885),
    Claim("m5", "mobilenetv3_large_100", "onnx", "fp32", "fp32"),
    Claim("m5", "mobilenetv3_large_100", "onnx", _BEST, _BEST),
    Claim("m5", "mobilenetv3_large_100", "openvino", _BEST, _BEST),
    Claim("m2", "mobilevit_xxs", "onnx", STOCK, STOCK, 7.4),
    Claim("m2", "mobilevit_xxs", "onnx", _BEST, STOCK),
    Claim("m2", "mobilevit_xxs", "onnx", _BEST, _BEST),
)


def compared(bench: Bench) -> Iterator[Compared]:
    """Every claim of which both sides were timed, at every batch and number of threads that they share."""
    for claim in CLAIMS:
        for batch, threads in sorted({(row.batch, row.threads) for row in bench.rows}):
            rows = [row for row in bench.rows if (row.batch, row.threads) == (batch, threads)]
            first = _fastest(rows, claim.first, claim.target, claim.first_form)
            second = _fastest(rows, claim.second, claim.target, claim.second_form)
            if first is not None and second is not None:
                yield Compared(claim, first, second)


def _fastest(rows: list[Row], model: str, target: str, form: str) -> Row | None:
    chosen = [row for row in rows if (row.model, row.target) == (model, target) and form in (row.precision, _BEST)]
    return min(chosen, key=lambda row: row.timing.median_ms, default=None)
