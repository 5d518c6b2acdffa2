"""The identity gate on every kind of file: whether each is proven, and in how many seconds.

    python -m benchmarks.proof OUT.json --models m0 m5 --sizes 224 160 --batches 1 16 dynamic --seeds 0 1 2

Each file is made by the stages of an export, calibrated on two random images; nothing is measured on images. What
OUT.json holds is not made again. Seconds are those of one core; of a stage that several files have in common, each
file has all. A file's proof is timed without what was evaluated for another.
"""

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import torch

from efficientvit.digests import digests
from efficientvit.errors import VitExportError
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import MODELS
from efficientvit.weights.source import find_weights
from export.request.request import DYNAMIC, parse_batch
from export.targets.coreml.options import CoreMlOptions
from export.targets.int8_options import Int8Options
from export.targets.onnx.calibration import GOLDEN
from export.targets.onnx.opsets import DEFAULT_OPSET
from export.targets.registry import BUILT_IN
from export.targets.target import Job, TargetOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic
from validation.int8.ranges import calibration_digests, quantized
from validation.proof.identity import forget, prove
from validation.proof.outcome import Proof
from validation.reference.model import ReferenceModel

T = TypeVar("T")
_IMAGES = 2
_COMPRESSED = {"linear8": (8, "linear"), "palette8": (8, "palette"), "palette6": (6, None), "palette4": (4, None)}
FILES: Mapping[str, tuple[str, str]] = {
    f"{target.name}-{precision}": (target.name, precision)
    for target in BUILT_IN.values()
    for precision in target.precisions
} | {f"coreml-{name}": ("coreml", "fp16") for name in _COMPRESSED}
"""Name -> target and precision."""


class Timed(NamedTuple):
    """A result, and the seconds of one core that it took."""

    result: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """One file. `proof`: seconds of what ships; `proofs`: of all stages; `making`: of the stages themselves."""

    model: str
    size: int
    batch: str
    seed: int
    file: str
    outcome: str
    detail: str
    proof: float
    proofs: float
    making: float

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.model}-{self.size}-{self.batch}-{self.seed}-{self.file}"


@dataclass(slots=True)
class Series:
    """The files of one model, size and seed."""

    shop: Workshop
    seed: int
    _shared: dict[tuple[str, int | None], tuple[Timed, Timed]] = field(default_factory=dict)

    def row(self, name: str, batch: str) -> Row:
        """Make a file, and prove what each of its stages makes."""
        spec, job = self.shop.deploy.spec, _job(self.shop.deploy.spec.name, name, batch)
        source: Artifact | None = None
        making, proofs = [0.0], [0.0]
        outcome, detail = "failed", ""
        try:
            for stage, precision in job.plan:
                if stage.name == "build":  # what is proven of an engine is the network that it is built from
                    break
                key = (stage.name, job.batch)
                if key not in self._shared or not stage.shared:
                    made = timed(lambda at=stage, to=precision, of=source: at(self.shop, job, to, of))  # type: ignore[misc]
                    self._shared[key] = made, timed(lambda it=made.result, of=source: self._proof(it, of))  # type: ignore[misc]
                made, proven = self._shared[key]
                making.append(made.seconds)
                proofs.append(proven.seconds)
                source, outcome, detail = made.result, str(proven.result.outcome), proven.result.detail
        except VitExportError as error:
            traceback.print_exc()
            outcome, detail = "failed", str(error)
        return Row(spec.name, spec.image_size.height, batch, self.seed, name, outcome, detail,
                   round(proofs[-1], 3), round(sum(proofs), 3), round(sum(making), 3))  # fmt: skip

    def _proof(self, artifact: Artifact, source: Artifact | None) -> Proof:
        forget()
        image_input = artifact.interface.image_input
        right = digests(self.shop.reference.constants(artifact.precision, image_input))
        if artifact.precision.quantized:
            right = {**right, **calibration_digests(artifact, quantized(source))}
        return prove(artifact, right)


def timed(compute: Callable[[], T]) -> Timed:
    """What `compute` gives, and its seconds of processor time."""
    start = time.process_time()
    return Timed(compute(), time.process_time() - start)


def _job(model: str, name: str, batch: str) -> Job:
    target, precision = FILES[name]
    options = BUILT_IN[target].options()
    if target == "coreml":
        bits, method = _COMPRESSED.get(name.removeprefix("coreml-"), (None, None))
        image = "image" if batch == "1" else "tensor"
        options = CoreMlOptions(input=image, weights_bits=bits, weights_method=method, ios=16 if bits else 15)
    assert isinstance(options, TargetOptions)
    int8 = Int8Options() if precision == "int8" else None
    calibrate = GOLDEN if int8 else None
    return Job(model, BUILT_IN[target], precision, parse_batch(batch), DEFAULT_OPSET, options, calibrate, int8)


def _workshop(model: str, size: int, seed: int, folder: Path) -> Workshop:
    weights = find_weights(f"seeded:{seed}", model, square(size))
    noise = synthetic(Preprocessing(image_size=square(size))).of_kind("noise")
    few = GoldenSet(noise.members[:_IMAGES], noise.preprocessing)
    return Workshop(weights, ReferenceModel(weights.model, few), folder)


def main() -> None:
    """Make and prove what is lacking; print the table of all."""
    asked = _asked()
    known = {key: Row(**row) for key, row in json.loads(asked.out.read_text()).items()} if asked.out.exists() else {}
    torch.set_num_threads(1)
    for seed, size, model in product(asked.seeds, asked.sizes, asked.models):
        with tempfile.TemporaryDirectory() as folder:
            series: Series | None = None
            for batch, name in product(asked.batches, asked.files):
                key = f"{model}-{size}-{batch}-{seed}-{name}"
                if key in known or (batch == DYNAMIC and not BUILT_IN[FILES[name][0]].dynamic_batch):
                    continue
                if series is None:
                    series = Series(_workshop(model, size, seed, Path(folder)), seed)
                known[key] = series.row(name, batch)
                asked.out.write_text(json.dumps({each: asdict(row) for each, row in known.items()}, indent=1) + "\n")
    print("\n".join(table(list(known.values()))))  # noqa: T201


def table(rows: list[Row]) -> Iterator[str]:
    """A line a model and size, then what is not proven."""
    yield "| model | size | files | proven | seconds a file, median | at most | share of the making, all stages |"
    yield "|---|---|---|---|---|---|---|"
    for model, size in sorted({(row.model, row.size) for row in rows}):
        own = [row for row in rows if (row.model, row.size) == (model, size)]
        proven = sum(row.outcome == "proven" for row in own)
        seconds = [row.proof for row in own]
        share = sum(row.proofs for row in own) / sum(row.making for row in own)
        yield (f"| {model} | {size} | {len(own)} | {proven} | {median(seconds):.2f} | {max(seconds):.2f} | "
               f"{100 * share:.0f} % |")  # fmt: skip
    for row in rows:
        if row.outcome != "proven":
            yield f"{row.key}: {row.outcome}: {row.detail}"


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 160])
    parser.add_argument("--batches", nargs="+", default=["1", "16", DYNAMIC])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--files", nargs="+", choices=list(FILES), default=list(FILES))
    return parser.parse_args()


if __name__ == "__main__":
    main()
