"""What int8 costs with and without equalization, in every form: quality on labeled images, and latency.

    python -m benchmarks.int8 CHECKPOINT --calibrate DIR --eval DIR [--batch N] [--rounds N] [--also NAME=FILE]

RMS and median over the images of ‖y - y64‖ / ‖y64 - mean(y64)‖, y64 the trained form in float64; agreement of top-1
with y64; top-1. TensorRT's form is run by ONNX Runtime. `--also`: ONNX files or IRs that other tools made of the same
weights, for the same input. Latency: medians of interleaved runs on one thread.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import click
import numpy as np
import torch
from numpy.typing import NDArray

from efficientvit.images.preprocessing import Preprocessing, normalize
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.targets.onnx.target import EQUALIZE
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.host.machine import this_host
from runtimes.interface import INPUT
from validation.inputs.labeled_images import labeled_images
from validation.inputs.synthetic import synthetic
from validation.metrics import relative_error, root_mean_square
from validation.reference.emulation import answers
from validation.reference.model import ReferenceModel

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
FORMS = ("onnx", "openvino", "tensorrt")


@click.command()
@click.argument("checkpoint")
@click.option("--model", default="m0", show_default=True)
@click.option("--calibrate", required=True, help="Folder of photos.")
@click.option("--eval", "evaluation", required=True, type=click.Path(path_type=Path), help="A sub-folder per class.")
@click.option("--batch", default=16, show_default=True)
@click.option("--rounds", default=0, show_default=True, help="Interleaved runs of each file for its latency.")
@click.option("--also", multiple=True, help="NAME=FILE.")
def main(
    checkpoint: str, model: str, calibrate: str, evaluation: Path, batch: int, rounds: int, also: tuple[str, ...]
) -> None:
    """Print a line for each file."""
    torch.set_num_threads(1)
    weights = find_weights(checkpoint, model, None)
    spec = weights.model.spec
    preprocessing = Preprocessing(image_size=spec.image_size)
    reference = ReferenceModel(weights.model, synthetic(preprocessing))
    labeled = labeled_images(evaluation, preprocessing, spec.classes, weights.labels)
    images = np.stack([normalize(pixels, preprocessing) for pixels in labeled.pixels])
    right = answers(reference.exact, torch.tensor(images).double())
    top1 = 100 * float((right.argmax(1) == labeled.classes).mean())
    click.echo(f"{this_host().cpu}; batch {batch}; {len(images)} images, top-1 in float64 {top1:.2f} %")
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(weights, reference, Path(folder))
        runs = {name: run_of(file) for name, file in made(shop, model, calibrate, batch)}
        runs |= {name: run_of(Path(file)) for name, _, file in (each.partition("=") for each in also)}
        for name, run in runs.items():
            found = np.concatenate([_part(run, images, start, batch) for start in range(0, len(images), batch)])
            error = relative_error(found.astype(np.float64), right)
            agreement = 100 * float((found.argmax(1) == right.argmax(1)).mean())
            top1 = 100 * float((found.argmax(1) == labeled.classes).mean())
            click.echo(
                f"{name:24s} RMS {root_mean_square(error):.4f}, median {median(error.tolist()):.4f}, "
                f"agreement {agreement:.2f} %, top-1 {top1:.2f} %"
            )
        for name, ms in latencies(runs, images[:batch], rounds):
            click.echo(f"{name:24s} {ms:.2f} ms")


def made(shop: Workshop, model: str, calibrate: str, batch: int) -> Iterator[tuple[str, Path]]:
    """The file of each form, made of the plain float32 file and of the equalized one."""
    for form in FORMS:
        (job,) = Request((model,), (form,), "int8", calibrate=calibrate, batch=batch, kit=False).jobs()
        for equalized in (False, True):
            artifact: Artifact | None = None
            for stage, precision in job.plan:
                if stage.name == "parse":  # what is quantized for TensorRT, this host can run
                    break
                if stage is not EQUALIZE or equalized:
                    artifact = stage(shop, job, precision, artifact)
            assert artifact is not None
            kept = artifact.copied_to(shop.folder / f"{form}-{equalized}")
            yield f"{form}{', equalized' if equalized else ''}", kept


def run_of(file: Path) -> Run:
    """It on one thread, an IR in float32 where it is not in integers."""
    if file.suffix == ".xml":
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
        return lambda images: np.array(request.infer({0: images})[0])
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {INPUT: images})[0])


def _part(run: Run, images: NDArray[np.float32], start: int, batch: int) -> NDArray[np.float32]:
    part = np.take(images, range(start, start + batch), axis=0, mode="wrap")
    return run(part)[: len(images) - start]


def latencies(runs: dict[str, Run], images: NDArray[np.float32], rounds: int) -> Iterator[tuple[str, float]]:
    """Medians in ms; the order turns from round to round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.process_time()
            runs[name](images)
            times[name].append(time.process_time() - start)
    yield from ((name, 1e3 * median(each)) for name, each in times.items() if each)


if __name__ == "__main__":
    main()
