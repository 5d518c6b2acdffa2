"""TensorRT engines as the pipeline makes them: built ahead of time, judged by their network, never called verified."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from efficientvit.errors import ArtifactChanged, StageFailed, VitExportError
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from export.cli import main as cli
from export.exits import Exit
from export.pipeline import handover
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Prepared
from export.request.request import Request
from export.targets.onnx.calibration import calibration_images
from export.targets.registry import SHARED, TARGETS
from export.targets.target import Job, Make
from export.targets.tensorrt import build as to_tensorrt
from export.targets.tensorrt.build import build, compiled_layers, parse
from export.targets.tensorrt.options import DEFAULT_ARCHITECTURES, LAYERS, TensorRtOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.interface import INPUT, OUTPUT
from runtimes.precision import Precision
from runtimes.runtime import Evidence, Mode
from runtimes.tensorrt import native
from runtimes.tensorrt.api import ENTERPRISE, RTX, Product, engine_logger, product
from runtimes.tensorrt.evaluated import TrtNetwork
from runtimes.tensorrt.native import TensorRt
from tests.once import measured_once
from tests.running import run_request
from tests.stages import STAGES
from validation.inputs.synthetic import synthetic
from validation.judge import built
from validation.metrics import relative_error
from validation.timing.latency import TimingPlan, benchmark
from validation.verdict import Built, NotRun, VerifiedArtifact

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

ROOT = Path(__file__).parents[4]
SIZE, MODEL = 64, "m0"
FORMS = ("fp32", "fp16", "int8")
ALL = (*FORMS, "dynamic")
ADA = (89,)


class Traced:
    """The traced file of a batch, made once by the real stage; for other seeds with their own weights."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[int | None, Artifact] = {}

    def __call__(self, shop: Workshop, job: Job, precision: Precision, source: Artifact | None) -> Artifact:
        if job.batch not in self._made:
            own = Workshop(shop.weights, shop.reference, self._folder)
            self._made[job.batch] = STAGES["trace"](own, job, precision, source)
        made = self._made[job.batch]
        path = shop.path("trace", job, ".onnx")
        model = onnx.load(made.path)
        weights = shop.deploy.state_dict()
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].numpy(), tensor.name))
        onnx.save(model, path)
        return Artifact.on_disk(path, made.format, made.model, made_by="trace", batch=made.batch)


Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The pipeline. What several runs have in common is done once: trace, reference, the verdicts on shared files."""
    traced = Traced(tmp_path_factory.mktemp("traced"))
    with measured_once(lambda artifact: artifact.made_by in SHARED) as models:

        def runs(
            form: str,
            out: Path,
            *,
            seed: int = 0,
            batch: int | None = 1,
            changed: Callable[[Prepared], Prepared] = lambda model: model,
            **others: Make,
        ) -> Outcome:
            request = Request(
                models=(MODEL,),
                targets=("tensorrt",),
                precision=form,
                weights=f"seeded:{seed}",
                image_size=square(SIZE),
                batch=batch,
                out=out,
                kit=False,
                options={"tensorrt": TensorRtOptions(sm=ADA)},
                calibrate="golden" if form == "int8" else None,
            )
            own: dict[str, Make] = {**STAGES, "trace": traced, **others}
            (outcome,) = run_request(request, changed(models.of(request)), stages=own)
            return outcome

        yield runs


@dataclass(frozen=True)
class Made:
    """Outcomes by precision; `dynamic` is float32 with any batch."""

    outcomes: dict[str, Outcome]

    def folder(self, form: str) -> Path:
        found = self.outcomes[form].folder
        assert found is not None, self.outcomes[form].error
        return found

    def manifest(self, form: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder(form) / "manifest.json").read_text())
        return content

    def engine(self, form: str) -> Artifact:
        """As it lies in its folder."""
        artifact = self.outcomes[form].stages[-1].artifact
        return replace(artifact, path=self.folder(form) / "ship" / artifact.path.name)

    def network(self, form: str) -> VerifiedArtifact:
        """The verdict on what the engine was built from."""
        verdict = self.outcomes[form].stages[-2].verdict
        assert isinstance(verdict, VerifiedArtifact)
        return verdict

    def layers(self, form: str) -> list[dict[str, Any]]:
        content = json.loads((self.folder(form) / "evidence" / LAYERS).read_text())
        assert (content["product"], content["version"]) == (RTX, tensorrt_rtx.__version__)
        layers: list[dict[str, Any]] = content["layers"]
        return layers


@pytest.fixture(scope="module")
def made(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("exports")
    outcomes = {form: run(form, out) for form in FORMS}
    return Made({**outcomes, "dynamic": run("fp32", out, batch=None)})


@pytest.mark.parametrize("form", ALL)
def test_an_engine_is_built_and_not_called_verified(form: str, made: Made) -> None:
    outcome = made.outcomes[form]
    assert isinstance(outcome.final, Built), outcome.error or outcome.stages[-1].verdict
    assert all(isinstance(result.verdict, VerifiedArtifact) for result in outcome.stages[:-1])
    typed = {"fp16": ["precision"], "int8": ["equalize", "quantize"]}.get(form, [])
    assert [result.name for result in outcome.stages] == ["trace", "simplify", *typed, "parse", "build"]
    assert outcome.final.report.evidence is Evidence.REFERENCE
    assert outcome.final.report.batches == ((1, 3, 8) if form == "dynamic" else (1,))
    assert {evidence: outcome.code(evidence) for evidence in Evidence} == {
        Evidence.NATIVE: Exit.NOT_VERIFIED,
        Evidence.VENDOR: Exit.NOT_VERIFIED,
        Evidence.REFERENCE: Exit.OK,
        Evidence.BUILT: Exit.OK,
    }


@pytest.mark.parametrize("form", ALL)
def test_the_manifest_says_built_and_why_no_more(form: str, made: Made) -> None:
    manifest = made.manifest(form)
    assert (manifest["status"], manifest["exit_code"]) == ("built", 0)
    *before, last = manifest["stages"]
    assert [stage["verdict"]["status"] for stage in before] == ["verified"] * len(before)
    assert last["verdict"]["status"] == "built"
    assert "NVIDIA GPU" in last["verdict"]["reason"]
    assert "vit-export verify" in last["verdict"]["remedy"]
    assert last["verdict"]["evidence"] == before[-1]["verdict"]["evidence"] == "reference"
    assert manifest["timing"]["measured"] is False
    assert "not run" in manifest["timing"]["reason"]
    assert manifest["tensorrt"]["built_with"] == {
        "product": RTX,
        "version": tensorrt_rtx.__version__,
        "sm": "89",
        "tf32": "off",
        **({"batches": "1-8-16"} if form == "dynamic" else {}),
    }
    assert manifest["calibration"] == ("golden" if form == "int8" else None)
    assert "compiled layers" in last["artifact"]["notes"][0]
    assert last["artifact"]["tools"] == {RTX: tensorrt_rtx.__version__}


@pytest.mark.parametrize("form", ALL)
def test_the_folder_holds_the_engine_and_the_file_it_was_built_from(form: str, made: Made) -> None:
    ship = made.folder(form) / "ship"
    assert {path.name for path in ship.iterdir()} >= {"efficientvit_m0.engine", "efficientvit_m0.onnx"}
    assert (ship / "efficientvit_m0.engine").stat().st_size > 1_000_000
    typed = Artifact.on_disk(ship / "efficientvit_m0.onnx", Format.NETWORK, model_spec(MODEL), made_by="test")
    assert typed.sha256 == made.network(form).artifact.sha256
    assert json.loads((ship / "runtime-settings.json").read_text()) == made.manifest(form)["tensorrt"]["built_with"]


@pytest.mark.parametrize("form", ALL)
def test_compiled_layers_name_the_nodes_they_come_from(form: str, made: Made) -> None:
    model = onnx.load(made.folder(form) / "ship" / "efficientvit_m0.onnx")
    nodes = {node.name: node.op_type for node in model.graph.node}
    named = {name for layer in made.layers(form) for name in layer["onnx"]}
    assert named <= set(nodes)
    heavy = {name for name, kind in nodes.items() if kind in ("Conv", "MatMul", "Gemm", "Softmax")}
    assert heavy <= named


def test_compiled_layers_are_of_the_dtypes_asked_for(made: Made) -> None:
    # Arithmetic on the shapes of a dynamic batch has none.
    dtypes = {form: Counter(layer["dtype"] for layer in made.layers(form) if layer["dtype"]) for form in ALL}
    assert set(dtypes["fp32"]) == set(dtypes["dynamic"]) == {"Float"}
    assert dtypes["fp16"]["Half"] > 100
    assert dtypes["fp16"]["Float"] <= 2  # the cast of the logits
    assert dtypes["int8"]["Int8"] > 60
    assert set(dtypes["int8"]) == {"Int8", "Float"}


BUILD = """
import sys
from pathlib import Path
from efficientvit.size import square
from efficientvit.spec import model_spec
from export.targets.tensorrt.options import TensorRtOptions
from export.targets.tensorrt.build import build
from runtimes.artifact import Artifact, Format
source = Artifact.on_disk(Path(sys.argv[1]), Format.NETWORK, model_spec("m0", square(64)), made_by="parse")
build(source, Path(sys.argv[2]), TensorRtOptions(sm=(89,)))
"""


def test_two_builds_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    """In another process, from the same typed file."""
    ship = made.folder("fp16") / "ship"
    again = tmp_path / "again.engine"
    subprocess.run([sys.executable, "-c", BUILD, ship / "efficientvit_m0.onnx", again], cwd=ROOT, check=True)
    assert again.read_bytes() == (ship / "efficientvit_m0.engine").read_bytes()


def test_a_dynamic_batch_gives_each_image_its_own_answer(made: Made) -> None:
    """Distinct images, in reverse: what the static network says of each alone."""
    images = synthetic(Preprocessing(image_size=square(SIZE))).ordinary().images[:8]
    with TrtNetwork().open(made.engine("fp32")) as session:
        alone = np.concatenate([session(image[None])["logits"] for image in images]).astype(np.float64)
    assert len(np.unique(alone.argmax(axis=1))) > 3
    with TrtNetwork().open(made.engine("dynamic")) as session:
        for batch in (1, 3, 8):
            count = len(images) // batch * batch
            mixed = images[:count][::-1].copy()
            parts = [session(mixed[start : start + batch])["logits"] for start in range(0, count, batch)]
            assert relative_error(np.concatenate(parts)[::-1].astype(np.float64), alone[:count]).max() <= 1e-5


def _stand_in_engine(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    """Where only the gates before it matter."""
    assert source is not None
    path = shop.path("build", job, ".engine")
    path.write_bytes(b"an engine")
    path.with_name(LAYERS).write_text("{}")
    shutil.copyfile(source.path, path.with_suffix(".onnx"))
    return Artifact.on_disk(
        path, Format.ENGINE, source.model, made_by="build", precision=source.precision, source=source
    )


@pytest.mark.parametrize("form", FORMS)
def test_no_false_alarm_on_other_weights(run: Run, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third draw, at 96 pixels, is the healthy chain of tests/faults/test_tensorrt_faults.py."""
    # At 64 pixels int8 costs seeded weights about what the default budget allows; some draws a little more.
    outcome = run(form, tmp_path, seed=3, build=_stand_in_engine)
    assert outcome.status == "built", outcome.error or outcome.stages[-1].verdict
    assert outcome.code(Evidence.REFERENCE) is Exit.OK


def _vit_export(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vit-export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.mark.parametrize("form", ["fp16", "int8", "dynamic"])
def test_verify_says_built_again(
    form: str, made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _vit_export(monkeypatch, "verify", made.folder(form), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "built"
    assert "NVIDIA GPU" in said["reason"]


@pytest.mark.parametrize(("required", "code"), [("native", 3), ("built", 0)])
def test_verify_insists_on_the_evidence_required(
    required: str, code: int, made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _vit_export(monkeypatch, "verify", made.folder("fp32"), "--require", required) == code
    assert "built" in capsys.readouterr().err


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SPOILED: dict[str, Callable[[Path], object]] = {
    "one bit of the engine": lambda ship: _flip(ship / "efficientvit_m0.engine"),
    "one bit of the file beside it": lambda ship: _flip(ship / "efficientvit_m0.onnx"),
    "the file beside it is gone": lambda ship: (ship / "efficientvit_m0.onnx").unlink(),
    "the engine is gone": lambda ship: (ship / "efficientvit_m0.engine").unlink(),
    "another engine": lambda ship: (ship / "efficientvit_m0.engine").write_bytes(b"of somebody else"),
    "other settings": lambda ship: (ship / "runtime-settings.json").write_text("{}"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_an_edited_folder_is_refused(
    what: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made.folder("fp16"), folder)
    SPOILED[what](folder / "ship")
    assert _vit_export(monkeypatch, "verify", folder) == 1
    assert "error" in capsys.readouterr().err


def test_a_file_beside_the_engine_is_judged_and_not_only_hashed(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever puts the manifest right as well meets the gates."""
    folder = tmp_path / "copy"
    shutil.copytree(made.folder("fp16"), folder)
    path = folder / "ship" / "efficientvit_m0.onnx"
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "head.linear.bias")
    value = numpy_helper.to_array(tensor).copy()
    value[0] = np.nextafter(value[0], np.float16(9))
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    engine = Artifact.on_disk(path.with_suffix(".engine"), Format.ENGINE, model_spec(MODEL), made_by="test")
    manifest["stages"][-1]["artifact"]["sha256"] = engine.sha256
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert _vit_export(monkeypatch, "verify", folder, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "rejected"
    assert "constants gate" in said["reason"]


def test_what_was_built_cannot_be_timed(made: Made) -> None:
    final = made.outcomes["fp16"].final
    assert isinstance(final, Built)
    shipped = replace(final, artifact=made.engine("fp16"))
    plan, image = TimingPlan(warm_up_s=0, measure_s=0, least_samples=1), np.zeros((1, 3, SIZE, SIZE), np.float32)
    for runtime in (TensorRt(), TrtNetwork()):
        with pytest.raises(VitExportError, match="never timed"):
            benchmark(shipped, runtime, plan, image)  # type: ignore[arg-type]


def test_only_what_was_judged_is_called_built(made: Made) -> None:
    engine = made.engine("fp16")
    assert isinstance(built(engine, made.network("fp16")), Built)
    with pytest.raises(ArtifactChanged, match="is not the file that was judged"):
        built(engine, made.network("fp32"))
    with pytest.raises(ArtifactChanged):
        built(replace(engine, sha256="0" * 64), made.network("fp16"))


def test_an_engine_on_weights_that_hide_faults_is_no_verdict(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made and handed over, and exit 3."""

    def vacuous(model: Prepared) -> Prepared:
        return replace(model, check=replace(model.check, failures=("nothing could have failed",)))

    outcome = run("fp32", tmp_path, changed=vacuous, build=_stand_in_engine)
    assert isinstance(outcome.final, NotRun)
    assert "vacuous" in outcome.final.reason
    assert outcome.code(Evidence.REFERENCE) is Exit.NOT_VERIFIED
    assert outcome.folder is not None
    assert (outcome.folder / "ship" / "efficientvit_m0.engine").exists()


def test_on_a_gpu_host_the_engine_itself_is_judged(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the engine's runtime: where it can run, nobody takes the network's word for it."""
    opened: list[Mode] = []

    @contextlib.contextmanager
    def opens(self: TensorRt, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Any]:
        opened.append(mode)
        with TrtNetwork().open(artifact, mode, threads) as session:
            yield session

    monkeypatch.setattr(native.TensorRt, "unavailable", lambda _: None)
    monkeypatch.setattr(native.TensorRt, "open", opens)
    monkeypatch.setattr(handover, "TimingPlan", lambda **_: TimingPlan(warm_up_s=0, measure_s=0, least_samples=1))
    outcome = run("fp32", tmp_path, build=_stand_in_engine)
    assert isinstance(outcome.final, VerifiedArtifact)
    assert outcome.final.report.evidence is Evidence.NATIVE
    assert outcome.code(Evidence.NATIVE) is Exit.OK
    assert opened == [Mode.ORACLE, Mode.SHIPPED, Mode.DEFAULTS, Mode.SHIPPED]  # the last time to be timed
    assert outcome.timing is not None


# The stages alone, on a network of three layers.


def _typed(folder: Path, batch: int | str = 1, *nodes: onnx.NodeProto) -> Artifact:
    value = helper.make_tensor_value_info
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes
        or [
            helper.make_node("Conv", [INPUT, "kernel"], ["c"], name="stem.conv1/Conv"),
            helper.make_node("Relu", ["c"], ["r"], name="stem.relu1/Relu"),
            helper.make_node("GlobalAveragePool", ["r"], [OUTPUT], name="head/GlobalAveragePool"),
        ],
        "small",
        [value(INPUT, onnx.TensorProto.FLOAT, (batch, 3, 8, 8))],
        [value(OUTPUT, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    path = folder / "typed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    any_batch = isinstance(batch, str)
    return Artifact.on_disk(path, Format.ONNX, model_spec(MODEL), made_by="simplify", batch=None if any_batch else 1)


class Spy:
    """TensorRT for RTX, that remembers the builder's configurations, and may have something else to give than it."""

    def __init__(
        self,
        name: str = RTX,
        plan: Callable[[Any], Any] | None = None,
        wrap: Callable[[Any], Any] = lambda config: config,
        profile: Callable[[], Any] | None = None,
    ) -> None:
        self.configs: list[Any] = []
        spy = self

        class Builder:
            def __init__(self, logger: Any) -> None:
                self._builder, self._logger = tensorrt_rtx.Builder(logger), logger

            def __getattr__(self, name: str) -> Any:
                return getattr(self._builder, name)

            def create_builder_config(self) -> Any:
                spy.configs.append(wrap(self._builder.create_builder_config()))
                return spy.configs[-1]

            def create_optimization_profile(self) -> Any:
                return profile() if profile is not None else self._builder.create_optimization_profile()

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                if plan is not None:
                    return plan(self._logger)
                return self._builder.build_serialized_network(network, config)

        module = SimpleNamespace(**{key: getattr(tensorrt_rtx, key) for key in dir(tensorrt_rtx)})
        module.Builder = Builder
        self.product = Product(name, module)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Spy":
        monkeypatch.setattr(to_tensorrt, "product", lambda: self.product)
        return self


class Wrapped:
    """A builder's configuration, with some of its methods replaced."""

    def __init__(self, config: Any) -> None:
        self.__dict__["_config"] = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._config, name, value)


def _an_engine(logger: Any) -> bytes:
    del logger
    return b"an engine"


def test_tf32_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On by default: it would round float32 to ten bits, and nothing here could see it."""
    spy = Spy().install(monkeypatch)
    engine = build(_typed(tmp_path), tmp_path / "model.engine", TensorRtOptions(sm=ADA))
    (config,) = spy.configs
    assert not config.get_flag(tensorrt_rtx.BuilderFlag.TF32)
    assert dict(engine.settings)["tf32"] == "off"
    fresh = tensorrt_rtx.Builder(engine_logger(product(RTX))[0]).create_builder_config()
    assert fresh.get_flag(tensorrt_rtx.BuilderFlag.TF32)


@pytest.mark.parametrize("sm", [(89,), (80, 120), DEFAULT_ARCHITECTURES])
def test_an_engine_is_built_for_the_architectures_asked_for(
    sm: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(plan=_an_engine).install(monkeypatch)
    engine = build(_typed(tmp_path), tmp_path / "model.engine", TensorRtOptions(sm=sm))
    (config,) = spy.configs
    assert config.num_compute_capabilities == len(sm)
    found = [config.get_compute_capability(index).name for index in range(len(sm))]
    assert found == [f"SM{number}" for number in sm]
    assert dict(engine.settings)["sm"] == " ".join(map(str, sm))


def test_a_dynamic_batch_has_a_profile_and_a_fixed_one_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[Any] = []
    added: list[Any] = []

    class Profile:
        def set_shape(self, name: str, *sizes: tuple[int, ...]) -> None:
            shapes.append((name, sizes))

    class Config(Wrapped):
        def add_optimization_profile(self, profile: Any) -> int:  # the real one takes real profiles only
            added.append(profile)
            return 0

    Spy(plan=_an_engine, wrap=Config, profile=Profile).install(monkeypatch)
    options = TensorRtOptions(sm=ADA, profile=(2, 4, 6))
    dynamic = build(_typed(tmp_path, "batch"), tmp_path / "model.engine", options)
    assert shapes == [(INPUT, tuple((batch, 3, 8, 8) for batch in (2, 4, 6)))]
    assert len(added) == 1
    assert dict(dynamic.settings)["batches"] == "2-4-6"
    fixed = build(_typed(tmp_path), tmp_path / "model.engine", TensorRtOptions(sm=ADA))
    assert len(shapes) == len(added) == 1
    assert "batches" not in dict(fixed.settings)


def test_a_builder_that_gives_nothing_is_a_failure_that_says_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(logger: Any) -> None:
        logger.log(SimpleNamespace(name="ERROR"), "no implementation for stem.conv1/Conv")

    Spy(plan=nothing).install(monkeypatch)
    out = tmp_path / "model.engine"
    with pytest.raises(StageFailed, match="could not build the engine") as failed:
        build(_typed(tmp_path), out, TensorRtOptions(sm=ADA))
    assert failed.value.got == "no implementation for stem.conv1/Conv"
    assert "module" in str(failed.value.next_step)
    assert not out.exists()


def test_the_real_builder_refuses_float32_on_turing(made: Made, tmp_path: Path) -> None:
    """What the options refuse before (export/targets/tensorrt/options.py), and why."""
    ship = made.folder("fp32") / "ship"
    network = Artifact.on_disk(ship / "efficientvit_m0.onnx", Format.NETWORK, model_spec(MODEL), made_by="parse")
    with pytest.raises(StageFailed, match="could not build the engine") as failed:
        build(network, tmp_path / "model.engine", TensorRtOptions(sm=(75,)))
    assert failed.value.got
    assert failed.value.got != "no reason given"


def test_a_builder_that_fails_in_the_pipeline_exits_with_4(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spy(plan=lambda _: None).install(monkeypatch)
    outcome = run("fp32", tmp_path)
    assert isinstance(outcome.error, StageFailed)
    assert outcome.failed_stage == "build"
    assert outcome.code(Evidence.BUILT) is Exit.FAILED
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".failed")


def test_a_node_that_the_parser_refuses_in_the_pipeline_is_named(run: Run, tmp_path: Path) -> None:
    def spoiled(shop: Workshop, job: Job, precision: Precision, source: Artifact | None) -> Artifact:
        assert source is not None
        model = onnx.load(source.path)
        node = next(node for node in model.graph.node if node.op_type == "Softmax")
        node.op_type, node.domain = "Unheard", "of.nobody"
        model.opset_import.append(helper.make_opsetid("of.nobody", 1))
        path = tmp_path / "spoiled.onnx"
        onnx.save(model, path)
        return STAGES["parse"](shop, job, precision, replace(source, path=path))

    outcome = run("fp32", tmp_path / "out", parse=spoiled)
    assert isinstance(outcome.error, StageFailed)
    assert outcome.failed_stage == "parse"
    assert "node 'stage1.block1.mixer.branch/Softmax' (Unheard)" in str(outcome.error.got)
    assert outcome.code(Evidence.BUILT) is Exit.FAILED


def test_parse_hands_the_file_on_unchanged(tmp_path: Path) -> None:
    source = _typed(tmp_path)
    network = parse(source, tmp_path / "network.onnx")
    assert network.path.read_bytes() == source.path.read_bytes()
    assert (network.format, network.sha256, network.source_sha256) == (Format.NETWORK, source.sha256, source.sha256)
    odd = helper.make_node("Det", [INPUT], [OUTPUT], name="stem.conv1/Det")
    with pytest.raises(StageFailed, match="cannot parse") as failed:
        parse(_typed(tmp_path, 1, odd), tmp_path / "network.onnx")
    assert "node 'stem.conv1/Det' (Det)" in str(failed.value.got)


class Cache:
    """A stand-in for TensorRT's timing cache: ahead of time nothing is measured, and RTX would ask for a GPU."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+1"


class Caching(Wrapped):
    """A configuration that takes timing caches of its own making."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.__dict__["caches"] = []

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache.content.startswith(b"foreign"):
            return False
        self.caches.append(cache)
        return True

    def get_timing_cache(self) -> Cache:
        cache: Cache = self.caches[-1]
        return cache


def test_enterprise_builds_keep_what_they_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spy(ENTERPRISE, plan=_an_engine, wrap=Caching).install(monkeypatch)
    cache = tmp_path / "timing.cache"
    options = TensorRtOptions(timing_cache=cache)
    for kept in (b"+1", b"+1+1"):
        engine = build(_typed(tmp_path), tmp_path / "model.engine", options)
        assert cache.read_bytes() == kept
        assert dict(engine.settings)["sm"] == "this host's GPU"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_cache_of_another_version_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spy(ENTERPRISE, plan=_an_engine, wrap=Caching).install(monkeypatch)
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"foreign")
    build(_typed(tmp_path), tmp_path / "model.engine", TensorRtOptions(timing_cache=cache))
    assert cache.read_bytes() == b"+1"


def test_ahead_of_time_there_is_nothing_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spy(RTX, plan=_an_engine, wrap=Caching).install(monkeypatch)
    cache = tmp_path / "timing.cache"
    engine = build(_typed(tmp_path), tmp_path / "model.engine", TensorRtOptions(sm=ADA, timing_cache=cache))
    assert not cache.exists()
    assert any(note.startswith("--timing-cache was not used") for note in engine.notes)


def test_an_enterprise_build_says_that_it_is_for_this_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Spy(ENTERPRISE, plan=_an_engine).install(monkeypatch)
    asked = build(_typed(tmp_path), tmp_path / "asked.engine", TensorRtOptions(sm=ADA))
    assert any(note.startswith("--sm was not used") for note in asked.notes)
    plain = build(_typed(tmp_path), tmp_path / "plain.engine", TensorRtOptions())
    assert not any("was not used" in note for note in plain.notes)


LISTING = [
    """Engine Layer Information:
Name: first_0, LayerType: kgen, Inputs: [ { Name: image, Datatype: Float }], Outputs: [ { Name: x, Datatype: Half }], \
Metadata: [ONNX Layer: stem.conv1/Conv]\x1e[ONNX Layer: stem.relu1/Relu]
Name: second_1, LayerType: gemm, Inputs: [ { Name: x, Datatype: Half }], Outputs: []
""",
    "Name: first_0, LayerType: kgen, Inputs: [], Outputs: [ { Name: x, Datatype: Float }]",  # of another architecture
    "Something else, Name: in passing",
]


def test_the_builders_listing_is_read() -> None:
    assert list(compiled_layers(LISTING)) == [
        {"name": "first_0", "kind": "kgen", "dtype": "Half", "onnx": ["stem.conv1/Conv", "stem.relu1/Relu"]},
        {"name": "second_1", "kind": "gemm", "dtype": None, "onnx": []},
    ]
    assert list(compiled_layers([])) == []


def _calibrated(calibrate: str) -> NDArray[np.float32]:
    golden = synthetic(Preprocessing(image_size=square(SIZE)))
    shop = Workshop(SimpleNamespace(), SimpleNamespace(given=golden), Path("nowhere"))  # type: ignore[arg-type]
    job = Job(MODEL, TARGETS["tensorrt"], "int8", 1, 18, TensorRtOptions(), calibrate=calibrate)
    images: NDArray[np.float32] = calibration_images(shop, job.calibrate)
    return images


def test_int8_is_calibrated_on_the_photos_given(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 90, 3), np.uint8)
    for index, photo in enumerate(pixels):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    photos = _calibrated(str(tmp_path))
    assert photos.shape == (3, 3, SIZE, SIZE)
    golden = _calibrated("golden")
    assert np.array_equal(golden, synthetic(Preprocessing(image_size=square(SIZE))).ordinary().images)
