"""Functions that make many artifacts and compare them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.request.options import Channels, OnDisk, SizeText
from export.workers.progress import Callback, as_progress

if TYPE_CHECKING:
    from export.bench.run import Bench
    from export.tuning.recovery.run import Recovered
    from export.tuning.run import Tuned


def bench(
    models: str | Sequence[str] = (),
    *,
    target: Sequence[str] = (),
    image_size: SizeText | None = None,
    batch: Sequence[int] = (),
    precision: Sequence[str] = (),
    calibrate: OnDisk | None = None,
    skip_bad_photos: bool = False,
    weights: OnDisk = "auto",
    ema: bool = False,
    override: bool = False,
    quality_budget: float | None = None,
    threads: Sequence[int] = (),
    streams: Sequence[int] = (),
    rounds: int | None = None,
    stock: bool = False,
    peers: bool = False,
    pytorch: bool = False,
    paper: bool = False,
    out: OnDisk = "bench",
    jobs: int | None = 1,
    no_cache: bool = False,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    command: Sequence[str] = (),
    progress: Callback = None,
) -> "Bench":
    """Time models in every precision, runtime and batch asked for, side by side, on one host: `vit-export bench`.

    Writes `bench.html`, `bench.json`, `bench.csv`, `bench.md` and the artifacts into `out`. The options are the
    command's; `jobs`, `command`, `cluster` and what goes with it as in `export`. One worker of a cluster makes and
    times everything, and the result has its host.

    Raises:
        BadInput: options that do not go together, weights or photos that cannot be used.
        MissingExtra: `stock`, `peers`, `pytorch` or `paper` without timm.
        Unavailable: no worker can time a target.
    """
    from dataclasses import replace

    from export.api.workers import workers_of
    from export.bench.files import write_bench
    from export.bench.request import BenchRequest
    from export.bench.run import bench as compare
    from export.cache.store import default_cache
    from export.request.keywords import size_of
    from validation.budgets import Budgets

    request = BenchRequest(
        models=(models,) if isinstance(models, str) else tuple(models),
        targets=tuple(target),
        named=bool(target),
        precisions=tuple(precision),
        batches=tuple(batch),
        threads=tuple(threads),
        streams=tuple(streams),
        weights=str(weights),
        ema=ema,
        override=override,
        image_size=None if image_size is None else size_of(image_size),
        calibrate=None if calibrate is None else str(calibrate),
        skip_bad_photos=skip_bad_photos,
        budgets=Budgets(quality=quality_budget),
        stock=stock,
        peers=peers,
        pytorch=pytorch,
        paper=paper,
        rounds=rounds or 0,
        out=Path(out),
    )
    told, said = as_progress(progress), tuple(command)
    with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, jobs) as workers:
        if workers is None:
            found = compare(request.with_defaults(), told, None if no_cache else default_cache(), jobs, said)
        else:
            from export.bench.on_worker import bench_there

            found = bench_there(workers, request, told, said, cached=not no_cache)
    write_bench(request.out, found)
    return replace(found, folder=request.out)


def tune(
    model: str,
    *,
    eval: OnDisk,  # noqa: A002 - as the command line has it
    target: Sequence[str] = (),
    image_size: SizeText | None = None,
    batch: int = 1,
    precision: Sequence[str] = (),
    calibrate: OnDisk | None = None,
    skip_bad_photos: bool = False,
    weights: OnDisk = "auto",
    ema: bool = False,
    override: bool = False,
    golden: OnDisk | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
    labels: OnDisk | None = None,
    budget: float = 0.5,
    threads: int = 1,
    rounds: int | None = None,
    time_limit: float | None = None,
    out: OnDisk = "tuned",
    jobs: int | None = 1,
    no_cache: bool = False,
    cluster: str | None = None,
    tls_ca: OnDisk | None = None,
    tls_cert: OnDisk | None = None,
    tls_key: OnDisk | None = None,
    cluster_wait: float = 60.0,
    command: Sequence[str] = (),
    progress: Callback = None,
) -> "Tuned":
    """Find the fastest form of a model that loses at most `budget` of its top-1 accuracy, on this host.

    Writes `tune.html`, `tune.json` and `front/` into `out`. The options are those of `vit-export tune`; `time_limit` is
    in minutes; `jobs`, `command`, `cluster` and what goes with it as in `export`. What workers of a cluster make
    is timed on this host.

    Raises:
        BadInput: options that do not go together, weights or images that cannot be used.
        Unavailable: what makes a target is not installed, or no worker can make a candidate.
    """
    from export.api.workers import workers_of
    from export.cache.store import default_cache
    from export.request.evaluation import Evaluation
    from export.request.keywords import size_of
    from export.tuning.files import write_tuned
    from export.tuning.request import TuneRequest, targets_of
    from export.tuning.run import tune as search
    from validation.timing.interleaved import ROUNDS

    request = TuneRequest(
        model=model,
        targets=targets_of(target),
        named=tuple(name for name in target if name != "all"),
        evaluation=Evaluation(Path(eval)),
        budget=budget,
        precisions=tuple(precision),
        calibrate=None if calibrate is None else str(calibrate),
        weights=str(weights),
        ema=ema,
        override=override,
        image_size=None if image_size is None else size_of(image_size),
        batch=batch,
        golden=None if golden is None else Path(golden),
        skip_bad_photos=skip_bad_photos,
        labels=None if labels is None else str(labels),
        preprocessing={name: tuple(each) for name, each in (("mean", mean), ("std", std)) if each is not None},
        threads=threads,
        rounds=rounds or ROUNDS,
        time_limit_s=None if time_limit is None else 60 * time_limit,
        out=Path(out),
    )
    cache, told = None if no_cache else default_cache(), as_progress(progress)
    with workers_of(cluster, (tls_ca, tls_cert, tls_key), cluster_wait, jobs) as workers:
        found = search(request, told, tuple(command), cache=cache, at_once=jobs, workers=workers)
    write_tuned(found)
    return found


def recover(
    model: str,
    *,
    calibrate: OnDisk,
    weights: OnDisk = "auto",
    ema: bool = False,
    override: bool = False,
    image_size: SizeText | None = None,
    mean: Channels | None = None,
    std: Channels | None = None,
    skip_bad_photos: bool = False,
    minutes: float = 5.0,
    steps: int | None = None,
    seed: int = 0,
    out: OnDisk = "recovered.safetensors",
    progress: Callback = None,
) -> "Recovered":
    """Fine-tune a model for int8 on photos without labels, into a checkpoint of its own: `vit-export recover`.

    Raises:
        BadInput: weights or photos that cannot be used, or nothing was gained; then nothing is written.
    """
    from export.request.keywords import size_of
    from export.tuning.recovery.run import RecoveryRequest, recover_weights

    request = RecoveryRequest(
        model=model,
        weights=str(weights),
        calibrate=Path(calibrate),
        out=Path(out),
        minutes=minutes,
        steps=steps,
        seed=seed,
        image_size=None if image_size is None else size_of(image_size),
        ema=ema,
        override=override,
        skip_bad_photos=skip_bad_photos,
        preprocessing={name: tuple(each) for name, each in (("mean", mean), ("std", std)) if each is not None},
    )
    return recover_weights(request, as_progress(progress))
