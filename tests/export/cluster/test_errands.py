"""What workers do besides exports: a folder is judged again, and faults are planted."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from efficientvit.errors import Unavailable, VitExportError
from efficientvit.size import square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.seeded import seeded
from export import api
from export.cluster.address import Cluster
from export.cluster.client import Workers
from export.cluster.crew import Needs
from export.cluster.errand import Errand
from export.cluster.returned import NotWhatItSays
from export.cluster.verifying import Asked, verify_there
from export.selftest.faults.table import FAULTS
from export.selftest.run import selftest
from runtimes.runtime import Evidence
from tests.export.cluster.asking import SLUGS, Heard, keep_stepping
from tests.export.cluster.hosts import Hosts
from tests.export.conftest import Command, Exported
from tests.export.pipeline.eval_folder import write_eval_folder
from tests.silent import Silent
from tests.small_m0 import TINY
from validation.budgets import Budgets

FORMS = (("openvino", "fp32"), ("coreai", "fp16"))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A worker that really works, makes no Core AI assets, and whose latencies do not count."""
    pytest.importorskip("distributed")
    hosts = Hosts(tmp_path_factory.mktemp("hosts") / "hosts")
    try:
        hosts.start("one", "--no-timing", lacks=["target-coreai"])
        hosts.joined("one")
        yield hosts
    finally:
        hosts.stop()


def test_the_same_verdict_as_on_this_host(one: Hosts, exported: Exported, command: Command, tmp_path: Path) -> None:
    """With the weights, on labeled images: all of it is sent, and the folder is called as it is here."""
    shutil.copytree(exported.out / SLUGS["onnx"], tmp_path / "made")
    write_eval_folder(tmp_path / "labeled", seeded(model_spec("m0", square(64))), 10)
    given = ("verify", "made", "-w", "seeded", "--eval", "labeled", "--require", "native", "--json")
    there = command(*given, "--cluster", one.address, "--junit", "there.xml")
    here = command(*given)
    assert there.code == here.code == 0, there.err
    found = json.loads(there.out)
    assert found == json.loads(here.out)
    assert (found["folder"], found["evidence"], found["accuracy"]["images"]) == ("made", "native", 10)
    assert "<failure" not in (tmp_path / "there.xml").read_text()


def test_an_error_on_a_worker_names_the_files_of_this_host(one: Hosts, exported: Exported, tmp_path: Path) -> None:
    """A folder of labeled images with a file that is no image."""
    write_eval_folder(tmp_path / "labeled", seeded(model_spec("m0", square(64))), 4)
    broken = next((tmp_path / "labeled").rglob("*.png"))
    broken.write_bytes(b"no image")
    with pytest.raises(VitExportError, match=broken.name) as caught:
        api.verify(exported.out / SLUGS["onnx"], weights="seeded", eval=tmp_path / "labeled", cluster=one.address)
    assert "input-" not in str(caught.value)


def test_a_verdict_on_another_file_is_refused(exported: Exported) -> None:
    folders = [exported.out / SLUGS[name] for name in ("onnx", "openvino")]
    asked = Asked(folders[0], None, Budgets(), None, None, skip_bad=False, required=Evidence.REFERENCE)
    other = api.verify(folders[1])
    workers = cast(Any, SimpleNamespace(call=lambda *_: iter([(0, other)])))
    with pytest.raises(NotWhatItSays, match="a worker judged another file"):
        verify_there(workers, asked, Silent())
    own = replace(other, verdict=api.verify(folders[0]).verdict)
    same = verify_there(cast(Any, SimpleNamespace(call=lambda *_: iter([(0, own)]))), asked, Silent())
    assert same.folder == folders[0]


def test_the_same_faults_are_found_and_what_no_worker_can_make_is_told(
    one: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model of two heads a stage, which has fewer operators and a place for as many faults."""
    monkeypatch.setitem(MODELS, "m0", TINY)
    here = selftest("m0", "seeded", image_size=square(64), forms=FORMS[:1])
    with Workers(Cluster(one.address), 5.0) as workers:
        there = selftest("m0", "seeded", image_size=square(64), forms=FORMS, workers=workers)
    assert there.detections == here.detections
    assert len(there.detections) > 15
    assert there.inputs == here.inputs
    assert [replace(each, why="") for each in there.healthy] == [replace(each, why="") for each in here.healthy]
    assert (there.check, there.exit_code) == (here.check, here.exit_code)
    (told,) = set(there.unplanted) - set(here.unplanted)
    left = sum((each.target, each.variant) == FORMS[1] and not each.rare for each in FAULTS)
    assert left > 20
    assert told.startswith(f"{left} faults in coreai fp16: no worker of the cluster can take the faults in coreai")


def test_nothing_is_measured_where_latencies_do_not_count(one: Hosts, command: Command) -> None:
    given = ("m0", "-t", "onnx,openvino", "-w", "seeded", "--image-size", "64", "--cluster-wait", "1")
    ran = command("bench", *given, "--cluster", one.address)
    assert ran.code == 3
    assert "no worker of the cluster can take the benchmark of m0" in ran.err
    needs = "onnx-native, openvino-native, target-onnx, target-openvino, timing"
    said = " ".join(ran.err.split())
    assert f"one with {needs}, within 1 s" in said
    assert re.search(r"one \(\S+\): no timing\b", said)


def test_a_call_that_nobody_waits_for_ends_at_its_next_step(one: Hosts) -> None:
    class Leaving(Silent):
        def step(self, text: str) -> None:
            if text == "stepping":
                raise KeyboardInterrupt

    anywhere = (Needs(frozenset()),)
    with Workers(Cluster(one.address), 20.0) as workers:
        with pytest.raises(KeyboardInterrupt):
            list(workers.call([Errand(keep_stepping, (200.0,), anywhere, "stepping")], Leaving()))
        before = time.monotonic()
        assert list(workers.call([Errand(keep_stepping, (0.0,), anywhere, "nothing")], Heard())) == [(0, None)]
        assert time.monotonic() - before < 100


def test_what_nobody_can_do_is_unavailable(one: Hosts) -> None:
    errand = Errand(len, (), (Needs(frozenset({"wings"})),), "flying")
    with Workers(Cluster(one.address), 2.0) as workers:
        ((number, error),) = workers.call([errand], Heard())
    assert number == 0
    assert isinstance(error, Unavailable)
    assert "no worker of the cluster can take flying" in str(error)
    assert "one (" in str(error)
