"""`vit-export tune`: what is tried, timed, chosen, handed out, and said of the rest."""

import copy
import itertools
import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import pytest

from efficientvit.errors import BadLabeledSet, BadOption
from export import api
from export.cli.console import BANNER, console
from export.cli.search.tune import _show
from export.pipeline import finished
from export.pipeline.task import Task
from export.pipeline.tasks import Unit, units_of
from export.request.evaluation import Evaluation
from export.targets.registry import BUILT_IN
from export.tuning import making, run
from export.tuning.forms import Form
from export.tuning.making import Deadline, TimeUp
from export.tuning.record import tune_schema
from export.tuning.request import Candidate, LeftOut, TuneRequest
from export.tuning.searched import Searched, Tried
from tests.command_line import Ran, in_this_process
from tests.export.tuning.asking import OPTIONS, folder_in, host
from tests.silent import Silent

PAGE = Path(__file__).parents[3] / "docs" / "tune.md"
FLOATS = ("fp32", "fp16", "bf16")
QUICK = (*OPTIONS, "-t", "onnx,openvino", "-p", ",".join(FLOATS), "--rounds", "2")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """All floats of two targets, in a folder of its own, its cache included."""
    folder = folder_in(tmp_path_factory.mktemp("tune"))
    return folder, in_this_process(("tune", *QUICK), folder, XDG_CACHE_HOME=str(folder / "cache"))


@pytest.fixture(scope="module")
def record(searched: tuple[Path, Ran]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(searched[1].out)
    return found


def test_the_record_is_of_its_schema_and_on_disk(searched: tuple[Path, Ran], record: dict[str, Any]) -> None:
    folder, ran = searched
    assert ran.code == 0, ran.err
    jsonschema.validate(record, tune_schema())
    assert json.loads((folder / "tuned" / "tune.json").read_text()) == record
    assert record["images"] == 12
    assert record["reference_top1"] == 1
    page = (folder / "tuned" / "tune.html").read_text()
    assert f"<strong>{record['chosen']}</strong>" in page
    for each in record["candidates"]:
        assert each["name"] in page
        assert each["name"] in ran.err


def test_its_choice_is_the_fastest_of_the_exhaustive_list(record: dict[str, Any]) -> None:
    """Every precision that either target has, made here from the targets' own tables."""
    exhaustive = {
        f"{target}-{precision}"
        for target in ("onnx", "openvino")
        for precision in BUILT_IN[target].precisions
        if precision in FLOATS
    }
    candidates = {each["name"]: each for each in record["candidates"]}
    assert exhaustive == {name for name, each in candidates.items() if each["status"] != "not_tried"}
    assert {n: each["reason"] for n, each in candidates.items() if n not in exhaustive} == {
        "onnx-bf16": "onnx is made in fp32, fp16, int8 only"
    }
    within = {n: each["latency"]["median_ms"] for n, each in candidates.items() if each["within_budget"]}
    assert len(within) >= 3
    assert record["chosen"] == min(within, key=lambda name: within[name])
    assert candidates[record["chosen"]]["front"]
    assert candidates[record["chosen"]]["best"]


def test_the_folders_worth_having_are_complete_exports(
    searched: tuple[Path, Ran], record: dict[str, Any], command: Any
) -> None:
    folder = searched[0]
    worth = [each for each in record["candidates"] if each["front"] or each["best"]]
    assert {each["folder"] for each in worth} == {f"tuned/front/m0-{each['name']}" for each in worth}
    assert sorted(path.name for path in (folder / "tuned" / "front").iterdir()) == sorted(
        f"m0-{each['name']}" for each in worth
    )
    chosen = folder / "tuned" / "front" / f"m0-{record['chosen']}"
    ran = command("verify", str(chosen))
    assert ran.code == 0, ran.err


def test_a_second_search_takes_every_export_from_the_cache(searched: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = searched
    shutil.copytree(folder / "eval", tmp_path / "eval")
    ran = in_this_process(("tune", *QUICK), tmp_path, XDG_CACHE_HOME=str(folder / "cache"))
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    tried = [each for each in found["candidates"] if each["status"] != "not_tried"]
    assert all(each["cached"] for each in tried)
    assert all(each["latency"] is not None for each in tried)  # measured anew
    assert found["trained"] is False
    assert BANNER in ran.err  # no export was there to say it
    assert not found["earlier_front"]


def test_noise_is_marked_in_the_terminal(record: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    found = copy.deepcopy(record)
    for each in found["candidates"]:
        if each["latency"] is not None:
            each["latency"]["noisy"] = each["name"] == "openvino-fp32"
    with console() as screen:
        _show(screen, found)
    marked = [line.split()[0] for line in capfd.readouterr().err.splitlines() if "noisy timing" in line]
    assert marked == ["openvino-fp32"]


def test_its_command_makes_the_same_file(searched: tuple[Path, Ran], record: dict[str, Any], tmp_path: Path) -> None:
    folder, _ = searched
    (one,) = (each for each in record["candidates"] if each["name"] == "onnx-fp16")
    shutil.copytree(folder / "eval", tmp_path / "eval")
    ran = in_this_process((*one["command"], "--no-time", "--json"), tmp_path)
    assert ran.code == 0, ran.err
    (manifest,) = json.loads(ran.out)["artifacts"]
    assert manifest["stages"][-1]["artifact"]["sha256"] == one["sha256"]


def test_no_time_is_no_choice(command: Any, tmp_path: Path) -> None:
    """What an earlier search chose stays."""
    folder_in(tmp_path)
    before = tmp_path / "tuned" / "front" / "kept"
    before.mkdir(parents=True)
    ran = command("tune", *OPTIONS, "-t", "onnx", "-p", "fp32", "--time-limit", "1e-9")
    assert ran.code == 3, ran.err
    found = json.loads(ran.out)
    assert (found["chosen"], found["out_of_time"]) == (None, True)
    assert [each["status"] for each in found["candidates"]] == ["not_tried"]
    assert "time was up" in ran.err
    assert not found["gets_further"]
    page = (tmp_path / "tuned" / "tune.html").read_text()
    assert "give it a longer --time-limit" in ran.err
    assert "No export was finished in it" in page
    assert "from the cache" not in ran.err + page
    assert before.is_dir()
    assert found["earlier_front"]
    assert "front/ is of an earlier search" in ran.err
    assert "is of an earlier search" in page


_UNFIT, _SHORT = "out of the format's range", "the host is short of memory"


def _tried(status: str, drop: float | None = None, before: float | None = None, *, reproducible: bool = True) -> Tried:
    """Of ONNX, with the code that its export has."""
    code = {"verified": 0, "built": 3, "rejected": 1, "not_run": 3, "failed": 4, _UNFIT: 2, _SHORT: 3}[status]
    status = "failed" if status in (_UNFIT, _SHORT) else status
    manifest = {"status": status, "accuracy": None if drop is None else {"drop_points": drop}}
    export = SimpleNamespace(code=code, manifest=manifest, before=before)
    job = SimpleNamespace(options=SimpleNamespace(reproducible=reproducible))
    return Tried(cast(Any, SimpleNamespace(target="onnx", name=status, job=job)), cast(Any, export))


@pytest.mark.parametrize(
    ("tried", "code"),
    [
        ([("verified", 0.9)], 1),  # over the budget, within noise
        ([("verified", 0.9), ("failed", None)], 1),
        ([("rejected", 9.0), ("failed", None)], 1),
        ([("rejected", None), ("not_run", None)], 1),
        ([("failed", None), ("failed", None)], 4),
        ([("failed", None), (_UNFIT, None)], 4),
        ([(_SHORT, None)], 3),
        ([("failed", None), ("not_run", None)], 3),
        ([("failed", None), ("built", None)], 3),
        ([], 3),
    ],
)
def test_a_target_with_nothing_within_the_budget_has_the_code_of_the_help(
    tried: list[tuple[str, float | None]], code: int, tmp_path: Path
) -> None:
    asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path))
    assert Searched(asked, [_tried(*each) for each in tried]).exit_code == code


def test_the_same_command_gets_further_only_where_something_new_is_in_the_cache(tmp_path: Path) -> None:
    def further(*tried: Tried, out_of_time: bool = True, cached: bool = True) -> bool:
        asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path))
        return Searched(asked, list(tried), out_of_time=out_of_time, cached=cached).gets_further

    assert further(_tried("verified", before=1.0), _tried("verified"))
    assert not further(_tried("verified", before=1.0), _tried("rejected"), _tried("failed"))
    assert not further(_tried("verified"), cached=False)
    assert not further(_tried("verified"), out_of_time=False)
    assert not further(_tried("verified", reproducible=False)), "which is not kept"


def test_a_target_that_was_not_named_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[TuneRequest] = []

    class Understood(Exception):
        pass

    def stop(request: TuneRequest, *_: Any, **__: Any) -> None:
        asked.append(request)
        raise Understood

    monkeypatch.setattr(run, "tune", stop)
    for target in ((), ("all",)):
        with pytest.raises(Understood):
            api.tune("m0", eval=tmp_path, target=target, precision=("bf16",))
    for each in asked:
        tried, left_out = each.candidates(host())
        assert [one.name for one in tried] == ["openvino-bf16"]
        assert {one.name for one in left_out} == {f"{name}-bf16" for name in each.targets if name != "openvino"}
        assert "onnx is made in fp32, fp16, int8 only" in {one.why for one in left_out}
        assert each.possible == ("openvino",)  # of which the exit code is


def test_a_time_limit_ends_what_is_being_made() -> None:
    steps: list[str] = []
    progress = cast(Any, SimpleNamespace(step=steps.append, weights=lambda _: None))
    Deadline(progress, None).step("one")
    with pytest.raises(TimeUp):
        Deadline(progress, 0.0).step("two")
    assert steps == ["one"]
    assert not issubclass(TimeUp, Exception)


def test_what_is_finished_in_time_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Time is up between two exports of one process."""
    asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path), precisions=("fp32", "fp16"), weights="seeded")
    candidates, _ = asked.candidates(host())
    clock = itertools.count()
    monkeypatch.setattr(making, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def outcomes(unit: Unit, *_: Any) -> Any:
        return ((task, SimpleNamespace(job=task.job)) for task in unit.tasks)

    monkeypatch.setattr(making, "outcomes_of", outcomes)
    monkeypatch.setattr(finished, "of", lambda outcome: outcome)
    found = making.make(candidates, Silent(), until=0.5)
    assert [each is None for each in found] == [False, True]


def test_int8_needs_photos_and_seven_bits_need_a_cpu_that_saturates(tmp_path: Path) -> None:
    asked = TuneRequest("m0", ("onnx",), Evaluation(tmp_path), calibrate="golden")
    tried, left_out = asked.candidates(host("avx2"))
    assert [each.name for each in tried] == ["onnx-fp32", "onnx-int8", "onnx-int8-reduced", "onnx-fp16"]
    assert not left_out
    tried, left_out = asked.candidates(host("avx512_vnni", "avx2"))
    assert [each.name for each in left_out] == ["onnx-int8-reduced"]
    _, left_out = TuneRequest("m0", ("onnx",), Evaluation(tmp_path)).candidates(host())
    assert all("--calibrate" in each.why for each in left_out)
    assert {each.precision for each in left_out} == {"int8"}


@pytest.mark.parametrize(
    ("status", "drop", "tried"), [("verified", 0.4, True), ("verified", 0.0, False), ("rejected", 9.0, False)]
)
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_layers_are_left_in_floats_where_int8_costs_accuracy(
    target: str, status: str, drop: float, tried: bool, tmp_path: Path
) -> None:
    asked = TuneRequest("m0", (target,), Evaluation(tmp_path), calibrate="golden")
    (plain,) = (each for each in asked.candidates(host())[0] if each.name == f"{target}-int8")
    manifest = {
        "status": status,
        "accuracy": {"drop_points": drop},
        "stages": [{"verdict": {"gates": {"quality": {"worst": 0.2}}}}],
    }
    before = Tried(plain, cast(Any, SimpleNamespace(manifest=manifest)))
    assert (target, Form("int8", error=0.5)) in run._dependent(asked)
    found = run._fewer_integers(asked, target, Form("int8", error=0.5), [before])
    if not tried:
        assert isinstance(found, LeftOut)
        assert ("lost no accuracy" if status == "verified" else "did not pass") in found.why
        return
    assert isinstance(found, Candidate)
    assert found.request.budgets.quality == pytest.approx(0.1)
    assert found.request.budgets.accuracy == 0.5
    assert found.request.out != plain.request.out  # both are m0-TARGET-int8


def test_forms_of_one_target_do_not_share_files(tmp_path: Path) -> None:
    asked = TuneRequest("m0", ("coreml", "onnx"), Evaluation(tmp_path), calibrate="golden")
    tried, _ = asked.candidates(host("avx2"))
    variants = [each.job.variant for each in tried]
    assert len(set(variants)) == len(variants) == 10


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-t", "onnx", "-p", "bf16"), "none of the targets can be made in bf16"),
        (("-t", "coreml", "--calibrate", "golden"), "--calibrate is for int8"),
        (("-t", "onnx,openvino", "-p", "bf16"), "target 'onnx' cannot be made in bf16"),
        (("-t", "onnx", "-p", "fp32,fp16", "--calibrate", "golden"), "add -p int8"),
        (("-t", "onnx", "-p", "int8"), "int8 has to be calibrated"),
        (("--budget", "-1"), "--budget is in percentage points"),
        (("-t", "quantum"), "unknown target 'quantum'"),
    ],
)
def test_what_cannot_be_searched_is_refused(options: tuple[str, ...], says: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    ran = command("tune", *OPTIONS, *options)
    assert ran.code == 2
    assert says in ran.err


def test_one_model_and_labeled_images_are_needed(command: Any, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="one model"):
        TuneRequest("all", ("onnx",), Evaluation(tmp_path))
    with pytest.raises(BadLabeledSet):
        Evaluation(tmp_path / "none")
    ran = command("tune", "m0")
    assert ran.code == 2
    assert "--eval" in ran.err


def test_the_commands_of_the_page_are_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each as it stands there, up to the search itself."""
    from export.cli.main import cli

    for name in ("val", "photos"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    asked: list[TuneRequest] = []

    class Understood(Exception):
        pass

    def stop(request: TuneRequest, *_: Any, **__: Any) -> None:
        asked.append(request)
        request.candidates(host("avx2"))
        raise Understood

    monkeypatch.setattr(run, "tune", stop)
    text = PAGE.read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("vit-export tune ")]
    assert len(commands) >= 3
    for line in commands:
        with pytest.raises(Understood):
            cli.main(shlex.split(line, comments=True)[1:], standalone_mode=False)
    assert {each.budget for each in asked} >= {0.5, 1.0}


def test_one_process_makes_what_begins_alike(tmp_path: Path) -> None:
    asked = TuneRequest("m0", ("onnx", "openvino", "coreml"), Evaluation(tmp_path), calibrate="golden")
    tried, _ = asked.candidates(host())
    units = units_of([Task(place, each.request, each.job) for place, each in enumerate(tried)])
    targets = [{task.job.target.name for task in unit.tasks} for unit in units]
    assert targets == [{"onnx", "openvino"}, {"coreml"}]
