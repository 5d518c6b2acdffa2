"""Functions that judge what there is already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from export.request.options import Channels, EvidenceName, OnDisk, SizeText
from export.workers.progress import Callback, as_progress

if TYPE_CHECKING:
    from export.commands.differences import Diff
    from export.commands.explain import Explanation
    from export.commands.judge import Judged
    from export.commands.verify import Verification
    from export.selftest.result import SelfTest


def verify(
    folder: OnDisk,
    *,
    weights: OnDisk | None = None,
    labels: OnDisk | None = None,
    skip_bad_photos: bool = False,
    require: EvidenceName = "reference",
    quality_budget: float | None = None,
    eval: OnDisk | None = None,  # noqa: A002 - as the command line has it
    accuracy_budget: float | None = None,
    junit: OnDisk | None = None,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    progress: Callback = None,
) -> "Verification":
    """Judge an exported folder again, on this host: `vit-export verify`.

    Args:
        folder: what an export made.
        weights: the checkpoint it was exported from: the reference is computed from it, and nothing in the folder is
            trusted.
        labels: with `eval`, the classes' names, one a line.
        skip_bad_photos: leave out files of `eval` that are no images.
        require: evidence that exit code 0 needs.
        quality_budget: relative error (RMS) that compressed weights may cost.
        eval: a folder of labeled images, one sub-folder for each class.
        accuracy_budget: percentage points of top-1 that may be lost.
        junit: where to write the verdict as JUnit XML, also of a folder on which there is none.
        cluster: a scheduler's address, or `local:N`: one of its workers judges the folder (docs/cluster.md).
        tls_ca: with `tls://`, the authority's certificate, PEM.
        tls_cert: this host's certificate.
        tls_key: its private key.
        cluster_wait: seconds to wait for the scheduler, and for a worker that can do it.
        progress: told what goes on.

    Raises:
        BadInput: no folder of an export, or weights or images that cannot be used.
        Refused: it holds nothing that may ship, or something in it was changed.
        Unavailable: no worker can run what ships.
    """
    from efficientvit.errors import VitExportError
    from export.api.workers import workers_of
    from export.commands import junit as xml
    from export.commands.verify import verify as judge_again
    from export.request.evaluation import evaluation
    from export.request.keywords import budgets_of, evidence_of

    budgets = budgets_of(quality_budget=quality_budget, accuracy_budget=accuracy_budget)
    names = None if labels is None else str(labels)
    asked = evaluation(_path(eval), budgets, labels=names, skip_bad_photos=skip_bad_photos)
    required = evidence_of(require)
    if junit is not None:
        xml.prepare(Path(junit))
    try:
        with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, None) as workers:
            how: Mapping[str, Any] = {
                "asked": asked,
                "labels": names,
                "skip_bad": skip_bad_photos,
                "required": required,
            }
            option, told = None if weights is None else str(weights), as_progress(progress)
            if workers is None:
                found = judge_again(Path(folder), option, budgets, told.step, **how)
            else:
                from export.cluster.verifying import Asked, verify_there

                found = verify_there(workers, Asked(Path(folder), option, budgets, **how), told)
    except VitExportError as error:
        if junit is not None:
            xml.write(Path(junit), xml.of_error(Path(folder), error))
        raise
    if junit is not None:
        xml.write(Path(junit), xml.of_verification(found, found.exit_code))
    return found


def judge(
    model: str,
    file: OnDisk,
    *,
    weights: OnDisk,
    range: Literal["normalized", "unit", "bytes"] | None = None,  # noqa: A002 - as the command line has it
    output: Literal["logits", "probabilities"] = "logits",
    ema: bool = False,
    override: bool = False,
    golden: OnDisk | None = None,
    labels: OnDisk | None = None,
    skip_bad_photos: bool = False,
    mean: Channels | None = None,
    std: Channels | None = None,
    quality_budget: float | None = None,
    eval: OnDisk | None = None,  # noqa: A002
    accuracy_budget: float | None = None,
    require: EvidenceName = "reference",
    progress: Callback = None,
) -> "Judged":
    """Judge a file that any tool exported against the checkpoint: `vit-export judge`.

    Args:
        model: `m0` to `m5`.
        file: an ONNX file, an OpenVINO IR (.xml) or a Core ML package.
        weights: the checkpoint that it was exported from.
        range: values that it takes; by default what fits best.
        output: values that it gives.
        ema: take the running average in the checkpoint.
        override: options may contradict what the checkpoint says of its input.
        golden: a folder of photos to judge on, in addition to the synthetic images.
        labels: with `eval`, the classes' names, one a line.
        skip_bad_photos: leave out files of `golden` and `eval` that are no images.
        mean: per-channel normalization mean, of pixels from 0 to 1.
        std: per-channel normalization standard deviation.
        quality_budget: relative error (RMS) that compressed weights may cost.
        eval: a folder of labeled images, one sub-folder for each class.
        accuracy_budget: percentage points of top-1 that may be lost.
        require: evidence that exit code 0 needs.
        progress: told what goes on.

    Raises:
        BadInput: the weights, the photos or the file cannot be used.
        Unavailable: the weights cannot be had, or the file not be run here.
        BrokenArtifact, StageFailed: the file cannot be read or run.
    """
    from efficientvit.weights.reading import Reading
    from export.commands.judge import JudgeOptions, judge_file
    from export.request.evaluation import evaluation
    from export.request.keywords import budgets_of, choice, evidence_of
    from validation.external.input_format import Range, Scores

    budgets = budgets_of(quality_budget=quality_budget, accuracy_budget=accuracy_budget)
    names = None if labels is None else str(labels)
    how = JudgeOptions(
        image_range=None if range is None else choice(Range, range, "--range"),
        scores=choice(Scores, output, "--output"),
        golden=_path(golden),
        skip_bad=skip_bad_photos,
        reading=Reading(ema=ema, override=override),
        preprocessing={name: tuple(each) for name, each in (("mean", mean), ("std", std)) if each is not None},
        budgets=budgets,
        evaluation=evaluation(_path(eval), budgets, labels=names),
        labels=names,
        required=evidence_of(require),
    )
    return judge_file(model, str(weights), Path(file), how, as_progress(progress).step)


def diff(
    old: OnDisk,
    new: OnDisk,
    *,
    fail_on: str | Sequence[str] = "parity",
    no_time: bool = False,
    progress: Callback = None,
) -> "Diff":
    """Compare two exported folders, what ships now and what would: `vit-export diff`.

    Args:
        old: the folder that ships now.
        new: the folder that would.
        fail_on: kinds that may not get worse, such as `parity`, or by how much, such as `latency:5%`.
        no_time: compare everything but latency.
        progress: told what goes on.

    Raises:
        BadInput: no folder of an export, or an unknown kind.
        Refused: one holds nothing that may ship, or was changed.
    """
    from export.commands.diff import diff as compare
    from export.commands.fail_on import parse_fail_on

    limits = parse_fail_on(fail_on if isinstance(fail_on, str) else ",".join(fail_on))
    return compare(Path(old), Path(new), limits=limits, time=not no_time, step=as_progress(progress).step)


def explain(
    folder: OnDisk, *, stage: str | None = None, weights: OnDisk | None = None, progress: Callback = None
) -> "Explanation":
    """Name the layer that is at fault in a rejected export: `vit-export explain`.

    Args:
        folder: what an export made, `.rejected` or not.
        stage: `rewrite`, or the last stage; by default the one that was rejected.
        weights: the checkpoint; by default as the manifest says.
        progress: told what goes on.

    Raises:
        BadInput: no folder of an export, no such stage, or weights that have to be named.
        ArtifactChanged: the weights or the file are not those of the manifest.
    """
    from export.commands.explain import explain as look_into

    return look_into(Path(folder), stage, None if weights is None else str(weights), as_progress(progress).step)


def selftest(
    model: str = "m0",
    *,
    image_size: SizeText | None = None,
    weights: OnDisk = "auto",
    ema: bool = False,
    override: bool = False,
    seed: int = 0,
    full: bool = False,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    progress: Callback = None,
) -> "SelfTest":
    """Plant faults in artifacts of a model, and see which gate catches them: `vit-export selftest`.

    Args:
        model: `m0` to `m5`.
        image_size: of the input, pixels; by default the weights' own.
        weights: the checkpoint.
        ema: take the running average in it.
        override: the size may contradict what it says.
        seed: of the faults' places and sizes.
        full: plant them in Core ML packages with compressed weights too.
        cluster: a scheduler's address, or `local:N`: its workers plant the faults, each those of one target.
        tls_ca: with `tls://`, the authority's certificate, PEM.
        tls_cert: this host's certificate.
        tls_key: its private key.
        cluster_wait: seconds to wait for the scheduler, and for a worker that can do it.
        progress: told what goes on.

    Raises:
        BadInput, DownloadFailed: the weights cannot be used, or had.
        Unavailable: the scheduler cannot be reached, or goes.
    """
    from efficientvit.weights.reading import Reading
    from export.api.workers import workers_of
    from export.request.keywords import size_of
    from export.selftest.run import selftest as plant_all

    size, reading = None if image_size is None else size_of(image_size), Reading(ema=ema, override=override)
    told = as_progress(progress)
    with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, None) as workers:
        return plant_all(
            model,
            str(weights),
            image_size=size,
            reading=reading,
            seed=seed,
            full=full,
            progress=told,
            workers=workers,
        )


def _path(name: OnDisk | None) -> Path | None:
    return None if name is None else Path(name)
