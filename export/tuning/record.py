"""`tune.json` as types: every candidate, what it costs, and which are worth having."""

from typing import Annotated, Any, Literal, Self

from msgspec import Meta

from export import __version__
from export.folder.manifest import HostRecord, Status
from export.folder.schema import schema_of
from export.records import Count, Number, Positive, Record, Sha256, Size, says
from export.tuning.request import LeftOut, TuneRequest
from export.tuning.searched import Searched, Tried
from runtimes.host.machine import this_host, versions
from validation.timing.latency import Timing

_TOOLS = ("torch", "onnx", "onnxruntime", "openvino", "coremltools")


class LatencyRecord(Record, frozen=True, kw_only=True):
    """Of a batch, from one run in which all candidates were timed in turns."""

    median_ms: Annotated[float, says("Milliseconds a batch.")]
    iqr_ms: Annotated[float, says("Interquartile range, milliseconds.")]
    noisy: Annotated[bool, says("The quartiles are more than a tenth of the median apart.")]
    threads: Annotated[Positive, says("Of the runtime.")]
    samples_ns: Annotated[list[Count], says("Every sample, nanoseconds a batch.")]

    @classmethod
    def of(cls, timing: Timing | None) -> Self | None:
        """None where nothing was timed."""
        if timing is None:
            return None
        return cls.from_attributes(timing, threads=timing.plan.threads, samples_ns=list(timing.samples_ns))


class CandidateRecord(Record, frozen=True, kw_only=True):
    """One form of one target."""

    name: Annotated[str, says("Target, precision, and what else is not the default.")]
    target: Annotated[str, says("As --target has it.")]
    precision: Annotated[str, says("As --precision has it.")]
    status: Annotated[Status | Literal["not_tried"], says("Of its export, as in its manifest; not_tried: none was "
                                                         "made.")]  # fmt: skip
    reason: Annotated[str | None, says("Why it did not pass or was not tried; null where it passed.")]
    cached: Annotated[bool, says("Nothing had changed since an earlier search or export.")]
    sha256: Annotated[Sha256 | None, says("Of the artifact; null where it did not pass.")]
    bytes: Annotated[Count | None, says("Size of the artifact; null where it did not pass.")]
    top1: Annotated[float | None, says("Share of the labeled images that it has right; null where not measured.")]
    drop_points: Annotated[float | None, says("Top-1 of the reference less its own, percentage points; null where not "
                                              "measured.")]  # fmt: skip
    interval_points: Annotated[tuple[float, float] | None, says("What that drop may be on images like these, 90 %; "
                                                                "null where not measured.")]  # fmt: skip
    within_budget: Annotated[bool, says("It passed, and the measured drop is no more than the budget.")]
    error: Annotated[Number | None, says("Relative error of the gate that judges what ships, quality or precision; "
                                         "null where it did not pass.")]  # fmt: skip
    error_budget: Annotated[Number | None, says("Of that gate; null where it did not pass.")]
    float_layers: Annotated[list[str], says("Layers of int8 that were left in floats.")]
    latency: Annotated[LatencyRecord | None, says("On this host; null where it was not timed.")]
    untimed: Annotated[str | None, says("Why it was not timed: then it is ranked by size and accuracy only, within its "
                                        "target. Null where it was timed or did not pass.")]  # fmt: skip
    front: Annotated[bool, says("No other is better or as good in latency, size and accuracy.")]
    best: Annotated[bool, says("Of its target, within the budget: the fastest, or where the target was not timed the "
                               "smallest.")]  # fmt: skip
    folder: Annotated[str | None, says("Its export, where it is worth having; null elsewhere.")]
    command: Annotated[list[str], says("Arguments of vit-export that make it alone; empty where it was not tried.")]


class TuneRecord(Record, frozen=True, kw_only=True):
    """A search for the fastest form of a model within a loss of accuracy."""

    schema: Annotated[Literal[1], says("Version of this schema.")]
    vit_export: Annotated[str, says("Version of vit-export.")]
    command: Annotated[list[str], says("The arguments it was called with.")]
    exit_code: Annotated[int, Meta(ge=0, le=4), says("Of the search.")]
    model: Annotated[str, says("Member of the family.")]
    image_size: Annotated[Size | None, says("Side, pixels; of a rectangle, height and width. Null where nothing was "
                                            "made.")]  # fmt: skip
    batch: Annotated[Positive, says("Images at once.")]
    weights_sha256: Annotated[Sha256 | None, says("Of the checkpoint; null where nothing was made.")]
    trained: Annotated[bool | None, says("Its weights were trained; null where nothing was made.")]
    images: Annotated[Count, says("Labeled images that accuracy was measured on.")]
    reference_top1: Annotated[float | None, says("Share of them that the reference has right; null where nothing was "
                                                 "made.")]  # fmt: skip
    budget_points: Annotated[float, says("Top-1 that may be lost, percentage points.")]
    host: Annotated[HostRecord, says("Where it was timed.")]
    tools: Annotated[dict[str, str], says("Versions of what is installed.")]
    seconds: Annotated[float, says("Duration of the search.")]
    out_of_time: Annotated[bool, says("--time-limit ended it.")]
    gets_further: Annotated[bool, says("--time-limit ended it, and an export was finished that the same command "
                                       "finds in the cache.")]  # fmt: skip
    earlier_front: Annotated[bool, says("front/ is of an earlier search: this one found nothing to replace it with.")]
    chosen: Annotated[str | None, says("The fastest candidate within the budget of all that were timed; null where "
                                       "there is none.")]  # fmt: skip
    candidates: Annotated[list[CandidateRecord], says("Those that passed first, the fastest first; then the others.")]

    @classmethod
    def of(cls, found: Searched) -> Self:
        """Everything that was tried, and what was not and why."""
        host, request = this_host(), found.request
        manifests = [each.export.manifest for each in found.tried]
        some: dict[str, Any] = dict(manifests[0]) if manifests else {}
        model, weights = some.get("model", {}), some.get("weights", {})
        accuracy = next((each["accuracy"] for each in manifests if each["accuracy"] is not None), None)
        return cls(
            schema=1,
            vit_export=__version__,
            command=list(found.command),
            exit_code=int(found.exit_code),
            model=request.model,
            image_size=model.get("image_size"),
            batch=request.batch,
            weights_sha256=weights.get("sha256"),
            trained=weights.get("trained"),
            images=0 if accuracy is None else accuracy["images"],
            reference_top1=None if accuracy is None else accuracy["reference"]["top1"],
            budget_points=request.budget,
            host=HostRecord.from_attributes(host, cores=host.physical_cores),
            tools=dict(versions(*_TOOLS)),
            seconds=round(found.seconds, 1),
            out_of_time=found.out_of_time,
            gets_further=found.gets_further,
            earlier_front=found.earlier_front,
            chosen=found.chosen,
            candidates=[
                *(_tried(each, found) for each in sorted(found.tried, key=_order)),
                *map(_left_out, found.left_out),
            ],
        )


def tune_schema() -> dict[str, Any]:
    """Of tune.json."""
    return schema_of(TuneRecord, "vit-export tune")


def _order(each: Tried) -> tuple[bool, bool, float, float]:
    """Passed before rejected, timed before untimed, fast and small first."""
    median = 0.0 if each.timing is None else each.timing.median_ms
    return not each.passed, each.timing is None, median, each.size_bytes if each.passed else 0.0


def _tried(each: Tried, found: Searched) -> CandidateRecord:
    manifest, job = each.export.manifest, each.candidate.job
    accuracy, passed = manifest["accuracy"], each.passed
    gates = each.verdict["gates"]
    gate = (gates["quality"] or gates["precision"]) if passed else None
    folder = found.folders.get(each.name)
    return CandidateRecord(
        name=each.name,
        target=job.target.name,
        precision=job.precision,
        status=manifest["status"],
        reason=None if passed else reason_of(manifest),
        cached=each.export.before is not None,
        sha256=manifest["stages"][-1]["artifact"]["sha256"] if passed else None,
        bytes=each.size_bytes if passed else None,
        top1=None if accuracy is None else accuracy["artifact"]["top1"],
        drop_points=each.drop,
        interval_points=None if accuracy is None else tuple(accuracy["interval_points"]),
        within_budget=passed and each.point(found.request.budget).within,
        error=gate and gate["worst"],
        error_budget=gate and gate["budget"],
        float_layers=list(manifest["precision"]["float_layers"]) if passed else [],
        latency=LatencyRecord.of(each.timing),
        untimed=each.untimed,
        front=each.name in found.front,
        best=each.name in found.best.values(),
        folder=None if folder is None else str(folder),
        command=_command(each, found.request),
    )


def _left_out(each: LeftOut) -> CandidateRecord:
    nothing = dict.fromkeys(
        ("sha256", "bytes", "top1", "drop_points", "interval_points", "error", "error_budget", "latency", "untimed",
         "folder")
    )  # fmt: skip
    no = dict.fromkeys(("cached", "within_budget", "front", "best"), False)
    return CandidateRecord.from_attributes(
        each, status="not_tried", reason=each.why, float_layers=[], command=[], **nothing, **no
    )


def reason_of(manifest: Any) -> str:
    """Why an export did not pass."""
    if manifest["failed"] is not None:
        return f"stage '{manifest['failed']['stage']}' failed: {manifest['failed']['error']}".splitlines()[0]
    last = manifest["stages"][-1]
    return f"stage '{last['name']}': {last['verdict']['reason']}"


def _command(each: Tried, asked: TuneRequest) -> list[str]:
    """What makes the same file without a search."""
    request, job = each.candidate.request, each.candidate.job
    words = [job.model, "-t", job.target.name, "-p", job.precision, "-w", request.weights]
    own = {flag.name: getattr(job.options, name) for name, flag in job.options.given().items()}
    given: dict[str, object] = {
        "--image-size": request.image_size,
        "--batch": None if job.batch == 1 else job.batch,
        "--golden": request.golden,
        "--calibrate": job.calibrate,
        "--eval": asked.evaluation.folder,
        "--accuracy-budget": f"{asked.budget:g}",
        "--quality-budget": None if request.budgets.quality is None else f"{request.budgets.quality:.6g}",
        **own,
        "--labels": asked.labels,
    }
    for name, value in given.items():
        words += [] if value is None else [name, str(value)]
    for name, value in request.preprocessing.items():
        words += [f"--{name}", *map(str, value)]
    flags = {
        "--ema": request.ema,
        "--override": request.override,
        "--skip-bad-photos": request.skip_bad_photos,
        "--reduce-range": request.int8.reduce_range,
    }
    return [*words, *(name for name, wanted in flags.items() if wanted)]
