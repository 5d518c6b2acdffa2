"""How near the preprocessing in a file is to Pillow's: 200 images of ten sizes, through ONNX Runtime and OpenVINO.

    python -m benchmarks.preprocessing [MODEL] [WEIGHTS] [PIXELS]

Prints a row a target: the share of 8-bit values that differ, the largest difference, the images on which the class is
another than with Pillow's preprocessing (with the margin between the two), and the median time of an image of each
size, on one thread, preprocessing included.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from efficientvit.size import square
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.selftest.artifacts import Artifacts
from export.targets.workshop import Workshop
from runtimes.host.machine import this_host
from runtimes.interface import OUTPUT
from runtimes.registry import runtime_for
from runtimes.runtime import Mode
from runtimes.wrapping import Feed, Takes
from validation.inputs.pictures import SIZES, pictures
from validation.inputs.synthetic import synthetic
from validation.network import network_of
from validation.picture_run import Pictured, picture_run
from validation.reference.model import ReferenceModel

SEEDS = 20
REPEATS = 5


def main(model: str = "m0", option: str = "seeded", side: str = "224") -> None:
    """Print the table."""
    weights = find_weights(option, model, square(int(side)))
    contract = preprocessing_of(weights.model.spec.image_size, weights.facts, {})
    reference = ReferenceModel(weights.model, synthetic(contract).one_of_each_kind())
    _say(f"{model} at {side}, {option}, {this_host().cpu}, {SEEDS * len(SIZES)} images")
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Artifacts(Workshop(weights, reference, Path(folder)), Path(folder))
        for target in ("onnx", "openvino"):
            (job,) = Request((model,), (target,), "fp32", feed=Feed(Takes.IMAGE)).jobs()
            file = artifacts.chain(job)["wrap"].artifact
            runtime = runtime_for(file.format)
            seen: list[Pictured] = []
            with network_of(file) as network:
                for seed in range(SEEDS):
                    seen += picture_run(file, network, reference.at(file.precision), runtime, seed).seen
            _show(target, seen)
            with runtime.open(file, Mode.SHIPPED) as session:
                for picture in pictures(None):
                    session(picture.pixels[None])
                    times = []
                    for _ in range(REPEATS):
                        start = time.perf_counter()
                        session(picture.pixels[None])
                        times.append(time.perf_counter() - start)
                    _say(f"  {picture.name}: {1e3 * float(np.median(times)):.1f} ms")


def _show(target: str, seen: list[Pictured]) -> None:
    each = [x.preprocessed for x in seen if x.preprocessed is not None]
    share = float(np.mean([x.differing for x in each]))
    worst, largest = max(x.differing for x in each), max(x.largest for x in each)
    flipped = [x for x in seen if not x.same_class]
    _say(f"{target}: {share:.4%} of all values differ, at most {worst:.3%} of an image's, by at most {largest}")
    _say(f"  another class on {len(flipped)} of {len(seen)}")
    for x in flipped:
        own, pillow = x.own[OUTPUT], x.pillow[OUTPUT]
        margin = float(pillow.max() - pillow[own.argmax()])
        _say(f"    {x.name}: {margin:.2e} apart, logits moved by up to {float(np.abs(own - pillow).max()):.2e}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
