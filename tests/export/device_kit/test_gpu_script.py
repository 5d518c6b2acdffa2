"""The script that runs on the GPU host, run here on stand-ins for TensorRT and CUDA: none of this is a GPU's word."""

import ast
import base64
import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from export.device_kit.device_report import device_report_schema
from export.device_kit.kit import write_kit
from runtimes.precision import Dtype, Precision
from validation.reference import file

pytestmark = pytest.mark.usefixtures("brief")

ROOT = Path(__file__).parents[3]
SCHEMA = device_report_schema()
FILES = ROOT / "export" / "device_kit" / "on_device"
INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)


def units_of(host: Any) -> dict[str, Any]:
    report = json.loads(host.report.read_text())
    jsonschema.validate(report, SCHEMA)
    return {unit["unit"]: unit for unit in report["units"]}


def kit_of(host: Any) -> dict[str, Any]:
    kit: dict[str, Any] = json.loads((host.folder / "kit" / "data" / "kit.json").read_text())
    return kit


def said(ran: Any) -> str:
    return f"{ran.stdout}{ran.stderr}"


def test_both_products_pass_and_are_then_timed(gpu_host: Any) -> None:
    ran = gpu_host.run()
    assert ran.returncode == 0, said(ran)
    units = units_of(gpu_host)
    assert {name: unit["status"] for name, unit in units.items()} == {"RTX": "passed", "ENTERPRISE": "passed"}
    for name, unit in units.items():
        samples, warm_up = unit["timing"]["samples_ns"], unit["timing"]["warm_up_runs"]
        assert len(samples) >= 30
        assert min(samples) > 0
        # The check; one plain and one graph launch that are compared; then nothing but what is timed.
        launches = [launch for launch in gpu_host.launches if launch[0] == name]
        assert len(launches) == len(kit_of(gpu_host)["runs"]) + 2 + warm_up + len(samples)
        assert (unit["engine"]["launch"], unit["engine"]["launch_reason"]) == ("graph", None)
    assert "ms median" in ran.stdout
    assert "rebuilt engine, CUDA graph" in ran.stdout


def test_the_report_is_bound_to_engine_and_kit_and_says_what_ran(gpu_host: Any) -> None:
    assert gpu_host.run("--no-time").returncode == 0
    report, units = json.loads(gpu_host.report.read_text()), units_of(gpu_host)
    data = gpu_host.folder / "kit" / "data"
    manifest = json.loads((gpu_host.folder / "manifest.json").read_text())
    assert report["package_sha256"] == manifest["stages"][-1]["artifact"]["sha256"]
    assert report["kit_sha256"] == hashlib.sha256((data / "kit.json").read_bytes()).hexdigest()
    assert report["tool"]["name"] == "check_on_gpu.py"
    assert report["tool"]["runtime"] == "tensorrt-rtx 0.rtx-standin, tensorrt 0.standin"
    assert report["device"]["model"] == "No GPU, a stand-in"
    assert report["device"]["chip"] == "compute capability 8.9"
    shipped = units["RTX"]["engine"]
    assert (shipped["origin"], shipped["reason"], shipped["launch"]) == ("shipped", None, None)
    assert shipped["sha256"] == hashlib.sha256((data / "model.engine").read_bytes()).hexdigest()
    built = units["ENTERPRISE"]["engine"]
    assert (built["origin"], built["reason"]) == ("rebuilt", "the shipped engine is one of tensorrt-rtx")
    kept = gpu_host.folder / "kit" / "rebuilt-ENTERPRISE.engine"
    assert built["sha256"] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert json.loads(kept.read_bytes())["onnx"] == hashlib.sha256((data / "model.onnx").read_bytes()).hexdigest()
    assert not (gpu_host.folder / "kit" / "rebuilt-RTX.engine").exists()


@pytest.mark.parametrize(("behavior", "says"), [("wrong", ">"), ("nan", "nan >"), ("silent", "nan >")])
def test_a_unit_over_its_budget_is_rejected_and_not_timed(behavior: str, says: str, gpu_host: Any) -> None:
    gpu_host.unit = {"ENTERPRISE": behavior}
    ran = gpu_host.run("--unit", "ENTERPRISE")
    assert ran.returncode == 1, said(ran)
    unit = units_of(gpu_host)["ENTERPRISE"]
    assert (unit["status"], unit["timing"]) == ("rejected", None)
    assert says in unit["reason"]
    # Not one run more than the check itself needs.
    assert len(gpu_host.launches) == len(kit_of(gpu_host)["runs"])
    assert "not timed" in ran.stdout
    assert not (gpu_host.folder / "kit" / "rebuilt-ENTERPRISE.engine").exists()


def test_a_probe_of_no_numbers_is_seen_without_its_answer(gpu_host: Any) -> None:
    cases = kit_of(gpu_host)["cases"]
    gpu_host.wrong = next(index for index, case in enumerate(cases) if case["logits"] is None)
    gpu_host.unit = {"RTX": "nan once"}
    assert gpu_host.run("--unit", "RTX").returncode == 1
    assert units_of(gpu_host)["RTX"]["reason"] == f"{cases[gpu_host.wrong]['name']}: logits that are no numbers"


def test_what_the_timed_launches_leave_is_compared_too(gpu_host: Any) -> None:
    gpu_host.unit = {"RTX": "drifts"}
    ran = gpu_host.run("--unit", "RTX")
    assert ran.returncode == 1, said(ran)
    unit = units_of(gpu_host)["RTX"]
    assert (unit["status"], unit["timing"]) == ("rejected", None)
    assert len(gpu_host.launches) > 60


def test_a_process_that_ends_takes_no_other_unit_with_it(gpu_host: Any) -> None:
    gpu_host.unit = {"RTX": "abort"}
    ran = gpu_host.run("--no-time")
    assert ran.returncode == 4, said(ran)
    units = units_of(gpu_host)
    assert (units["RTX"]["status"], units["RTX"]["cases"]) == ("crashed", [])
    assert "SIGKILL" in units["RTX"]["reason"]
    assert units["ENTERPRISE"]["status"] == "passed"


@pytest.mark.parametrize(("behavior", "says"), [
    ("short", "gives logits of shape (1, 11), where 12 an image are expected"),
    ("unbuildable", "could not build the engine: there is no kernel for it"),
])  # fmt: skip
def test_an_engine_that_is_no_classifier_or_none_at_all_crashes_with_a_reason(
    behavior: str, says: str, gpu_host: Any
) -> None:
    gpu_host.unit = {"ENTERPRISE": behavior}
    assert gpu_host.run("--no-time", "--unit", "ENTERPRISE").returncode == 4
    unit = units_of(gpu_host)["ENTERPRISE"]
    assert unit["status"] == "crashed"
    assert says in unit["reason"]


def test_an_engine_that_is_refused_is_built_again_and_the_report_says_so(gpu_host: Any) -> None:
    gpu_host.unit = {"RTX": "refuse"}
    ran = gpu_host.run("--no-time", "--unit", "RTX")
    assert ran.returncode == 0, said(ran)
    engine = units_of(gpu_host)["RTX"]["engine"]
    assert engine["origin"] == "rebuilt"
    assert engine["reason"].endswith("refused the shipped engine: the engine is of another version")
    kept = (gpu_host.folder / "kit" / "rebuilt-RTX.engine").read_bytes()
    assert engine["sha256"] == hashlib.sha256(kept).hexdigest() != kit_of(gpu_host)["engine"]["sha256"]


def test_an_enterprise_engine_is_enterprises_to_run(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> None:
    gpu_host.folder = make_gpu(tmp_path / "enterprise", product="tensorrt")
    write_kit(gpu_host.folder)
    assert gpu_host.run("--no-time").returncode == 0
    origins = {name: unit["engine"]["origin"] for name, unit in units_of(gpu_host).items()}
    assert origins == {"RTX": "rebuilt", "ENTERPRISE": "shipped"}


# ---- what is not there -----------------------------------------------------------------------------------------------


def test_a_product_that_is_not_installed_is_left_out(gpu_host: Any) -> None:
    gpu_host.missing = ("tensorrt",)
    ran = gpu_host.run("--no-time")
    assert ran.returncode == 0, said(ran)
    assert list(units_of(gpu_host)) == ["RTX"]
    assert "tensorrt is not installed" in ran.stdout


def test_a_product_that_was_asked_for_and_is_not_installed_is_no_success(gpu_host: Any) -> None:
    gpu_host.missing = ("tensorrt",)
    assert gpu_host.run("--no-time", "--unit", "ENTERPRISE").returncode == 3
    assert not gpu_host.report.exists()
    assert gpu_host.run("--no-time", "--unit", "ENTERPRISE", "--unit", "RTX").returncode == 3
    assert list(units_of(gpu_host)) == ["RTX"]


@pytest.mark.parametrize("nothing", [
    {"missing": ("tensorrt", "tensorrt_rtx")}, {"gpus": 0}, {"missing": ("cuda", "torch")},
])  # fmt: skip
def test_where_nothing_can_be_run_nothing_is_reported(nothing: dict[str, Any], gpu_host: Any) -> None:
    for name, value in nothing.items():
        setattr(gpu_host, name, value)
    ran = gpu_host.run()
    assert ran.returncode == 3, said(ran)
    assert not gpu_host.report.exists()
    assert gpu_host.launches == []
    assert "there is no report" in ran.stderr


@pytest.mark.parametrize("name", ["golden/000.bin", "golden/001.logits", "model.engine", "model.onnx"])
def test_a_kit_that_was_changed_runs_nothing(name: str, gpu_host: Any) -> None:
    path = gpu_host.folder / "kit" / "data" / name
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    assert gpu_host.run("--unit", "RTX").returncode == 1
    unit = units_of(gpu_host)["RTX"]
    assert unit["status"] == "refused"
    assert name.replace(".onnx", ".engine") in unit["reason"]
    assert gpu_host.launches == []


def test_a_kit_without_its_engine_runs_nothing(gpu_host: Any) -> None:
    (gpu_host.folder / "kit" / "data" / "model.onnx").unlink()
    assert gpu_host.run("--unit", "RTX").returncode == 1
    assert units_of(gpu_host)["RTX"]["status"] == "refused"


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_a_fixed_batch_is_filled_with_distinct_images(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> None:
    gpu_host.folder, gpu_host.batches = make_gpu(tmp_path / "b4", batch=4), (4,)
    write_kit(gpu_host.folder)
    ran = gpu_host.run("--no-time", "--unit", "RTX")
    assert ran.returncode == 0, said(ran)
    kit = kit_of(gpu_host)
    assert gpu_host.launches == [("RTX", 4)] * len(kit["runs"])
    assert len(units_of(gpu_host)["RTX"]["cases"]) == len(kit["cases"]) > 4


def test_answers_that_a_batch_mixes_up_are_rejected(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> None:
    gpu_host.folder, gpu_host.batches = make_gpu(tmp_path / "b4", batch=4), (4,)
    write_kit(gpu_host.folder)
    gpu_host.unit = {"RTX": "mixed"}
    assert gpu_host.run("--no-time", "--unit", "RTX").returncode == 1


def test_a_dynamic_engine_is_checked_at_two_batches_and_timed_at_the_usual_one(
    make_gpu: Any, tmp_path: Path, gpu_host: Any
) -> None:
    gpu_host.folder, gpu_host.batches = make_gpu(tmp_path / "dynamic", batch=None), (1, 4)
    write_kit(gpu_host.folder)
    ran = gpu_host.run("--unit", "ENTERPRISE")
    assert ran.returncode == 0, said(ran)
    kit, unit = kit_of(gpu_host), units_of(gpu_host)["ENTERPRISE"]
    assert [batch for _, batch in gpu_host.launches[: len(kit["runs"])]] == [len(run) for run in kit["runs"]]
    timed = gpu_host.launches[-len(unit["timing"]["samples_ns"]) :]
    assert set(timed) == {("ENTERPRISE", 4)}
    built = json.loads((gpu_host.folder / "kit" / "rebuilt-ENTERPRISE.engine").read_bytes())
    assert built["profile"] == [1, 4, 16]


def test_an_engine_that_does_not_take_the_batch_crashes_with_a_reason(
    make_gpu: Any, tmp_path: Path, gpu_host: Any
) -> None:
    gpu_host.folder, gpu_host.batches = make_gpu(tmp_path / "dynamic", batch=None), (1,)
    write_kit(gpu_host.folder)
    assert gpu_host.run("--no-time", "--unit", "RTX").returncode == 4
    assert "does not take a batch of 4" in units_of(gpu_host)["RTX"]["reason"]


# ---- int8 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def int8_host(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> Any:
    gpu_host.folder = make_gpu(tmp_path / "int8", precision=INT8, quality_budget=0.2)
    write_kit(gpu_host.folder)
    return gpu_host


@pytest.mark.parametrize(("noise", "code"), [(0.19, 0), (0.21, 1)])
def test_an_int8_engine_is_held_to_the_quality_budget(noise: float, code: int, int8_host: Any) -> None:
    int8_host.noise = noise
    assert int8_host.run("--no-time", "--unit", "RTX").returncode == code
    reason = units_of(int8_host)["RTX"]["reason"]
    assert (reason is None) if code == 0 else ("all together: 2.10e-01 > 2.00e-01" in reason)


def test_one_wholly_wrong_answer_is_not_lost_in_the_mean(int8_host: Any) -> None:
    int8_host.noise, int8_host.unit = 0.01, {"RTX": "wrong"}
    assert int8_host.run("--no-time", "--unit", "RTX").returncode == 1
    reason = units_of(int8_host)["RTX"]["reason"]
    assert kit_of(int8_host)["cases"][0]["name"] in reason


# ---- how it is run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("graph", "says"), [("refused", "stand-in error 900"), ("empty", "not those of a plain")])
def test_without_a_graph_plain_launches_are_timed_and_the_report_says_so(graph: str, says: str, gpu_host: Any) -> None:
    gpu_host.graph = graph
    ran = gpu_host.run("--unit", "RTX")
    assert ran.returncode == 0, said(ran)
    unit = units_of(gpu_host)["RTX"]
    assert unit["engine"]["launch"] == "plain"
    assert says in unit["engine"]["launch_reason"]
    assert len(unit["timing"]["samples_ns"]) >= 30


@pytest.mark.parametrize(("graph", "launch"), [(None, "graph"), ("refused", "plain")])
def test_pytorch_will_do_in_place_of_cuda_python(graph: str | None, launch: str, gpu_host: Any) -> None:
    gpu_host.missing, gpu_host.graph = ("cuda",), graph
    ran = gpu_host.run("--unit", "RTX")
    assert ran.returncode == 0, said(ran)
    unit = units_of(gpu_host)["RTX"]
    assert unit["engine"]["cuda"] == "torch 0.standin"
    assert unit["engine"]["launch"] == launch
    assert len(unit["timing"]["samples_ns"]) >= 30


def test_the_raw_outputs_are_those_of_the_engine(gpu_host: Any) -> None:
    gpu_host.noise = 0.0
    assert gpu_host.run("--unit", "RTX", "--no-time").returncode == 0
    reference = file.load(gpu_host.folder / "evidence")
    for case in units_of(gpu_host)["RTX"]["cases"]:
        right = reference.logits[reference.golden.names.index(case["name"])].astype(np.float32)
        assert np.array_equal(np.frombuffer(base64.b64decode(case["logits"]), "<f4"), right)


NVIDIA_SMI = """#!/bin/sh
echo "$@" >> "$0.log"
case "$*" in
  *driver_version*) echo 999.99 ;;
  *) echo "41, 70.12 W, 1980 MHz, 5001 MHz, P0" ;;
esac
"""


def test_nvidia_smi_is_asked_for_this_gpus_driver_and_its_state_before_and_after(gpu_host: Any) -> None:
    program = gpu_host.programs() / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    assert gpu_host.run("--unit", "RTX").returncode == 0
    unit = units_of(gpu_host)["RTX"]
    assert unit["engine"]["driver"] == "999.99"
    state = "temperature.gpu 41, power.draw 70.12 W, clocks.sm 1980 MHz, clocks.mem 5001 MHz, pstate P0"
    assert (unit["timing"]["thermal_before"], unit["timing"]["thermal_after"]) == (state, state)
    asked = (gpu_host.programs() / "nvidia-smi.log").read_text().splitlines()
    assert len(asked) == 3
    assert all(line.startswith("--id=0000:00:00.0 --query-gpu=") for line in asked)


def test_the_report_can_be_had_on_standard_output(gpu_host: Any) -> None:
    ran = gpu_host.run("--unit", "RTX", "--no-time", "--json")
    assert json.loads(ran.stdout) == json.loads(gpu_host.report.read_text())


# ---- what the stand-ins cannot tell ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FILES.glob("*.py")), ids=lambda path: str(path.name))
def test_the_scripts_are_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Match)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if any(keyword.arg == "strict" for keyword in call.keywords)]


LISTINGS = sorted((ROOT / "tests" / "data").glob("tensorrt-api-*.txt"))


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda path: str(path.stem))
def test_tensorrt_has_every_name_that_the_script_uses(listing: Path) -> None:
    text = listing.read_text()
    source = "".join((FILES / name).read_text() for name in ("check_on_gpu.py", "kit_engine.py"))
    for product_only in ("ComputeCapability", "DynamicShapesKernelSpecializationStrategy"):  # asked for by hasattr
        assert f'"{product_only}"' in source
    names = set(re.findall(r"\btrt\.([A-Z]\w+)", source)) - {
        "ComputeCapability",
        "DynamicShapesKernelSpecializationStrategy",
    }
    assert {"Builder", "OnnxParser", "Runtime", "ILogger"} <= names
    assert not [name for name in names if not re.search(rf"\b{name}\b", text)]
    methods = ("build_serialized_network", "create_builder_config", "create_optimization_profile", "clear_flag",
               "add_optimization_profile", "parse_from_file", "deserialize_cuda_engine", "create_execution_context",
               "get_tensor_dtype", "num_errors")  # fmt: skip
    assert not [method for method in methods if method not in source or method not in text]


def test_cuda_python_has_every_name_that_the_script_uses() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    source = (FILES / "kit_cuda.py").read_text()
    asked = set(re.findall(r'_ask\(\s*"(\w+)"', source)) | set(re.findall(r"_cuda\.(\w+)", source))
    assert len(asked) > 15
    assert not [name for name in asked if not hasattr(runtime, name)]
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeGlobal")
    assert {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"} <= set(runtime.cudaMemcpyKind.__members__)


def test_tensorrt_for_rtx_has_what_only_it_has() -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx")
    assert hasattr(trt.ComputeCapability, "CURRENT")
    assert hasattr(trt.DynamicShapesKernelSpecializationStrategy, "EAGER")
    assert hasattr(trt.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    context, engine = trt.IExecutionContext, trt.ICudaEngine
    for owner, name in (
        (context, "execute_async_v3"),
        (context, "set_input_shape"),
        (context, "get_tensor_shape"),
        (context, "set_tensor_address"),
        (engine, "create_runtime_config"),
        (engine, "create_execution_context"),
        (engine, "get_tensor_dtype"),
    ):
        assert hasattr(owner, name)
    assert importlib.import_module("tensorrt_rtx_bindings").Builder is trt.Builder
