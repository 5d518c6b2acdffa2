"""A benchmark on one worker: its host is in the record, its exit code is the command's."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import find_weights
from export.bench import on_worker
from export.bench.on_worker import bench_there, benched
from export.bench.request import BenchRequest
from export.bench.run import Bench
from export.cluster.address import Cluster
from export.cluster.client import Workers
from export.cluster.errand import Errand
from export.exits import Exit
from runtimes.host.machine import this_host
from tests.export.conftest import Command
from tests.integer_cpu import needs_exact_int8
from tests.silent import Silent

CPU = "The quiet one"
FP32, INT8 = (f"m0-64-onnx-{precision}-best-1614eeec" for precision in ("fp32", "int8"))


@needs_exact_int8
def test_one_worker_makes_judges_and_times_it(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32 passes and int8 is rejected. The worker has another folder, so that all that it reads was sent."""
    dask = pytest.importorskip("dask")
    told = {"cpu": CPU, "works_in": "/", "rejects": True}
    monkeypatch.setenv("VIT_EXPORT_TESTS_WORKER", json.dumps(told))
    save_checkpoint(seeded(model_spec("m0", square(64)), 3), tmp_path / "best.safetensors")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    given = ["m0", "-t", "onnx", "-p", "fp32,int8", "--calibrate", "photos", "--quality-budget", "1e-6"]
    options = ["-w", "best.safetensors", "--image-size", "64", "--rounds", "1", "-o", "out", "--no-cache"]
    with dask.config.set({"distributed.worker.preload": ["tests.export.cluster.faulty"]}):
        ran = command("bench", *given, *options, "--json", "--cluster", "local:1")
    assert ran.code == 1, ran.err
    assert f"measured on {CPU}" in ran.err
    assert f"{INT8} is rejected, and was not timed: quality gate" in ran.err

    out = tmp_path / "out"
    names = {"mine", "artifacts", "bench.html", "bench.json", "bench.csv", "bench.md"}
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "bench.json").read_text())
    assert record == json.loads(ran.out)
    assert record["host"]["cpu"] == CPU != this_host().cpu
    assert [(row["target"], row["precision"]) for row in record["rows"]] == [("onnx", "fp32")]
    assert CPU in (out / "bench.html").read_text()
    artifacts = {path.name: path for path in (out / "artifacts").iterdir()}
    assert set(artifacts) == {FP32, f"{INT8}.rejected"}
    manifest = json.loads((artifacts[FP32] / "manifest.json").read_text())
    own = find_weights(str(tmp_path / "best.safetensors"), "m0", square(64))
    assert manifest["weights"]["sha256"] == own.sha256
    assert manifest["host"]["cpu"] == CPU


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-t", "coreml"), "cannot be timed on any host"),
        (("-p", "int8"), "int8 has to be calibrated"),
        (("-p", "fp32", "--jobs", "2"), "--cluster has workers"),
        (("-w", "nowhere.pth"), "nowhere.pth"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(
    options: tuple[str, ...], says: str, command: Command
) -> None:
    pytest.importorskip("distributed")
    ran = command("bench", "m0", *options, "--cluster", "tcp://127.0.0.1:9", "--cluster-wait", "1")
    assert ran.code == 2
    assert says in ran.err


def test_where_no_target_is_named_the_worker_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes what it has installed; the one that has most is asked first."""
    asked = list[Errand]()

    def call(_: Workers, errands: list[Errand], __: object) -> list[tuple[int, Bench]]:
        asked.extend(errands)
        return [(0, Bench((), exit_code=Exit.REJECTED))]

    monkeypatch.setattr(Workers, "call", call)
    request = BenchRequest(("m0",), targets=(), precisions=("fp32",), weights="seeded", out=tmp_path)
    with Workers(Cluster("tcp://127.0.0.1:9")) as workers:
        assert bench_there(workers, request, Silent()).exit_code == Exit.REJECTED
    (errand,) = asked
    both, openvino, onnx = (needs.all_of for needs in errand.needs)
    assert openvino == {"timing", "target-openvino", "openvino-native"}
    assert onnx == {"timing", "target-onnx", "onnx-native"}
    assert both == openvino | onnx
    sent, *_ = errand.given
    assert isinstance(sent, BenchRequest)
    assert (sent.targets, sent.batches, dict(sent.read)) == ((), (1,), {})
    assert errand.out == tmp_path / "artifacts"


def test_files_are_called_as_they_are_on_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    paths = {"out/artifacts": str(tmp_path / "artifacts"), "photos": str(tmp_path / "photos")}

    def bench(request: BenchRequest, *_: object) -> Bench:
        assert request.artifacts == tmp_path / "artifacts"
        return Bench((), (f"{request.calibrate} and {request.artifacts}/x",))

    monkeypatch.setattr(on_worker, "bench", bench)
    request = BenchRequest(("m0",), calibrate="photos", out=Path("out"))
    assert benched(Silent(), paths, request, (), False).notes == ("photos and out/artifacts/x",)
