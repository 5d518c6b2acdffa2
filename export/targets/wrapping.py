"""Stage `wrap`: preprocessing of photos, and probabilities or classes, around a network that was judged before.

`--input` and `--output` ask for it.
"""

from collections.abc import Mapping
from dataclasses import replace

from efficientvit.errors import BadOption
from efficientvit.images.decoding import MAX_PIXELS
from efficientvit.images.preprocessing import Preprocessing, resized_size
from export.targets.target import Job, Stage
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision
from runtimes.registry import reader_of, row_of
from runtimes.wrapping import Gives, Takes, Wrapping

OLDEST_RESIZING = 18
"""The first opset whose `Resize` is antialiased, as Pillow's is."""


def require_wrapping(job: Job) -> None:
    """Find out before any work that the target has no such input or output.

    Raises:
        BadOption: it has none, or the opset cannot say it.
    """
    target, feed, answers = job.target, job.feed, job.answers
    if feed.takes not in target.feeds:
        raise BadOption(
            f"{target.title} do not take --input {feed}",
            expected=" or ".join(f"--input {each}" for each in target.feeds),
            got=f"--input {feed}",
            next_step=f"leave --input out, or -t {target.name}; {target.instead}",
        )
    if answers.gives is not Gives.LOGITS and target.wrap is None:
        raise BadOption(
            f"{target.title} do not take --output {answers}",
            expected="--output logits",
            got=f"--output {answers}",
            next_step=f"leave --output out, or -t {target.name}; {target.instead}",
        )
    if answers.gives is not Gives.LOGITS and not job.head.gives_logits:
        raise BadOption(
            f"--output {answers} is for classifiers",
            expected=f"--head logits with --output {answers}",
            got=f"--head {job.head}",
            next_step="leave --output out: maps and embeddings have no classes",
        )
    if feed.takes is not Takes.TENSOR and job.plan[-1][1].execution is Dtype.BF16:
        raise BadOption(
            "preprocessing is not computed in bfloat16, which has 8 bits",
            expected="-p fp32, fp16 or int8 with --input pixels or image",
            got=f"-p {job.precision} --input {feed}",
            next_step="take -p fp32, or leave --input out",
        )
    if feed.takes is Takes.IMAGE and target.format == Format.ONNX and job.opset < OLDEST_RESIZING:
        raise BadOption(
            "a file that resizes photos needs a newer opset",
            expected=f"--opset {OLDEST_RESIZING} or later with --input image",
            got=f"--opset {job.opset}",
            next_step="leave --opset out, or take --input pixels: then the app resizes and crops",
        )


def require_preprocessing(job: Job, preprocessing: Preprocessing, classes: int) -> None:
    """The same, now that the weights and what they say of their input are known.

    Raises:
        BadOption: the format cannot resize so, or there are fewer classes than are asked for.
    """
    if job.answers.best > classes or (job.answers.best and classes == 1):
        raise BadOption(
            f"there are no {job.answers.best} best of {classes} class{'' if classes == 1 else 'es'}",
            expected=f"--output topk:K with K from 1 to {classes}" if classes > 1 else "--output probabilities",
            got=f"--output {job.answers}",
            next_step="leave --output out, or name fewer",
        )
    if job.feed.takes is not Takes.IMAGE:
        return
    reader = row_of(job.target.format).reader
    filters = frozenset[str]() if reader is None else reader.resampled
    if preprocessing.interpolation not in filters or preprocessing.crop == "squash":
        squash = preprocessing.crop == "squash"
        raise BadOption(
            f"{job.target.title} cannot resize as the weights' preprocessing does",
            expected="a center crop" if squash else f"--interpolation {' or '.join(sorted(filters))}",
            got="a photo that is squashed" if squash else f"--interpolation {preprocessing.interpolation}",
            next_step="take --input pixels: then the app resizes and crops",
        )
    size = job.feed.size
    if size is not None and max(size.area, resized_size(size, preprocessing).area) > MAX_PIXELS:
        raise BadOption(
            f"an image of {size.height}x{size.width} is too large, or too long and thin to resize",
            expected=f"at most {MAX_PIXELS:,} pixels, also once it covers {preprocessing.resize}",
            got=f"{size.height}x{size.width}, resized {resized_size(size, preprocessing)}",
            next_step="scale it down or crop it in the app, or take --input pixels",
        )


def _wrap(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    assert source is not None
    wrapping = Wrapping(job.feed, job.answers, shop.reference.given.preprocessing)
    out = shop.path("wrap", job, source.path.suffix)
    reader_of(source).wrap(source, wrapping, out)
    interface = replace(source.interface, wrapping=wrapping)
    precision = made.made_of(source.precision)
    return source.becomes(out, "wrap", precision=precision, tools=source.tools, interface=interface)


def _contract(shop: Workshop, _: Job, __: Precision) -> Mapping[str, object]:
    return {"preprocessing": shop.reference.given.preprocessing}


WRAP = Stage("wrap", _wrap, depends=_contract, wraps=True)
