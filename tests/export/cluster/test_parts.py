"""What a cluster is made of, each part alone: files by digest, who may work, what a host offers, what travels."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from efficientvit.errors import BadGoldenSet
from efficientvit.size import square
from export.cluster import abilities
from export.cluster.abilities import SATURATES, TIMING, better_without, needed_for, same_bits
from export.cluster.blobs import Blobs, Tree, in_parts, is_inside
from export.cluster.crew import Crew, Needs
from export.cluster.identity import EXTRA, differences, identity
from export.cluster.shipment import Contents, Shipping
from export.commands.doctor import Ability
from export.pipeline.tasks import tasks_of
from export.request.request import Request
from export.targets.coreml.options import CoreMlOptions
from runtimes.host.machine import this_host
from runtimes.runtime import Evidence
from tests.silent import Silent


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_tree_arrives_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "7").mkdir(parents=True)
    (source / "7" / "a.jpg").write_bytes(b"a")
    (source / "b.jpg").write_bytes(b"b")
    contents, blobs = Contents(), Blobs(tmp_path / "blobs")
    tree = contents.add_tree(source)
    assert blobs.missing(tree.digests) == {_digest(b"a"), _digest(b"b")}
    for digest in tree.digests:
        blobs.put(digest, contents.read(digest))
    assert blobs.missing(tree.digests) == frozenset()
    placed = blobs.place(tree, tmp_path / "job")
    assert placed == tmp_path / "job" / "photos"
    assert Tree.of(placed) == tree
    single = contents.add_tree(source / "b.jpg")
    assert blobs.place(single, tmp_path / "one").read_bytes() == b"b"
    assert single.name == "b.jpg"


def test_what_arrives_with_another_digest_is_not_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(ValueError, match="was announced"):
        blobs.put(_digest(b"a"), b"b")
    assert list(tmp_path.iterdir()) == []


def test_the_least_recently_used_goes(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for number, content in enumerate((b"1234", b"5678", b"90")):
        blobs.put(_digest(content), content)
        os.utime(tmp_path / _digest(content), (number, number))
    blobs.place(Tree("x", (("", _digest(b"1234")),)), tmp_path.parent / "used")
    blobs.prune(6)
    assert blobs.missing(map(_digest, (b"1234", b"5678", b"90"))) == {_digest(b"5678")}


def test_files_are_sent_in_parts() -> None:
    sizes = {"a": 5, "b": 5, "c": 30, "d": 1}
    assert list(in_parts(sizes, 10)) == [["a", "b"], ["c"], ["d"]]
    assert list(in_parts({}, 10)) == []


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a/b", True), ("a", True), ("../a", False), ("a/../../b", False), ("/a", False), ("", False), ("a\0", False)],
)
def test_names_lead_into_the_folder(name: str, inside: bool) -> None:
    assert is_inside(name) is inside


OWN: Mapping[str, Any] = {"version": "1", "code": "c", "python": "3.11", "tools": {"torch": "2.9", "onnx": "1.19"}}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (dict(OWN), ()),
        ({**OWN, "tools": {"torch": "2.9", "coremltools": "9.0"}}, ()),
        ({**OWN, "version": "2", "code": "d"}, ("vit-export 2 there, 1 here",)),
        ({**OWN, "python": "3.12"}, ("Python 3.12 there, 3.11 here",)),
        ({**OWN, "code": "d"}, ("other code of vit-export 1: d there, c here",)),
        ({**OWN, "tools": {"torch": "2.8"}}, ("torch 2.8 there, 2.9 here",)),
        (None, ("it is no worker of vit-export; start it with `vit-export worker`",)),
    ],
)
def test_who_may_work(says: Mapping[str, Any] | None, why: tuple[str, ...]) -> None:
    assert differences(says, OWN) == why


def test_a_process_may_work_for_itself() -> None:
    own = identity()
    assert differences(own, own) == ()
    assert {"torch", "onnx", "numpy"} <= set(own["tools"])
    assert len(own["code"]) == 64


def test_a_crew_knows_who_can_and_who_may_not() -> None:
    crew = Crew(own=OWN)
    workers: dict[str, dict[str, Any]] = {
        "tcp://a": {"name": "a", "resources": {"target-onnx": 1, TIMING: 1}, EXTRA: dict(OWN)},
        "tcp://b": {"name": "b", "resources": {"target-onnx": 1, SATURATES: 1}, EXTRA: dict(OWN)},
        "tcp://c": {"name": "c", "resources": {"target-onnx": 1}, EXTRA: {**OWN, "version": "0"}},
    }
    assert crew.update(workers) == ["worker c (tcp://c) is refused: vit-export 0 there, 1 here"]
    assert crew.update(workers) == []  # said once
    onnx = frozenset({"target-onnx"})
    assert crew.able(Needs(onnx)) == ["tcp://a", "tcp://b"]
    assert crew.able(Needs(onnx, frozenset({SATURATES}))) == ["tcp://a"]
    assert crew.able(Needs(onnx | {TIMING})) == ["tcp://a"]
    assert crew.leave_out("tcp://a", "a full disk") == "worker a (tcp://a) gets no more work: a full disk"
    assert crew.able(Needs(onnx, frozenset({SATURATES}))) == ["tcp://b"]  # better than nobody
    assert crew.update(workers) == []
    error = crew.nobody("m0 coreml fp16", Needs(frozenset({"target-coreml"})), 5.0)
    assert error.got == (
        "b (tcp://b): no target-coreml; a (tcp://a): refused, a full disk; "
        "c (tcp://c): refused, vit-export 0 there, 1 here"
    )


def _ability(target: str, *, make: bool, time: bool) -> Ability:
    return Ability(target, target, "1", make, Evidence.NATIVE if time else None, time, None)


def test_a_host_offers_what_doctor_says(monkeypatch: pytest.MonkeyPatch) -> None:
    host = replace(this_host(), extensions=("avx512_vnni", "avx2"), architecture="x86_64")
    found = (
        _ability("onnx", make=True, time=True),
        _ability("coreml", make=True, time=False),
        _ability("tensorrt", make=False, time=True),
        _ability("openvino", make=False, time=False),
    )
    monkeypatch.setattr(abilities, "examine", lambda: (host, found))
    monkeypatch.setattr(abilities, "compute_capabilities", lambda: (80, 89))
    offered = {"target-onnx", "onnx-native", "onnx:avx512_vnni", "onnx:avx2", "target-coreml", "tensorrt-native"}
    offered |= {"tensorrt-native:sm80", "tensorrt-native:sm89"}
    assert abilities.of_this_host(timing=False) == dict.fromkeys((*offered, same_bits(host)), 1.0)
    assert set(abilities.of_this_host(timing=True)) == {*offered, same_bits(host), TIMING}
    assert same_bits(host) != same_bits(replace(host, extensions=()))
    old = replace(host, extensions=("avx2", "avx"))
    monkeypatch.setattr(abilities, "examine", lambda: (old, ()))
    assert set(abilities.of_this_host(timing=False)) == {SATURATES, same_bits(old)}


def test_what_jobs_need() -> None:
    jobs = Request(("m0",), ("onnx", "openvino"), weights="seeded").jobs()
    assert needed_for(jobs, timed=False) == {"target-onnx", "target-openvino"}
    assert needed_for(jobs[:1], timed=True) == {"target-onnx", TIMING}
    assert better_without(jobs) == frozenset()
    int8 = Request(("m0",), ("onnx",), "int8", weights="seeded", calibrate="golden").jobs()
    assert better_without(int8) == {SATURATES}


def test_a_request_travels_without_its_paths(tmp_path: Path) -> None:
    photos, labels = tmp_path / "photos", tmp_path / "labels.txt"
    photos.mkdir()
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(photos / "black.png")
    labels.write_text("".join(f"class {number}\n" for number in range(1000)))
    options = {"coreml": CoreMlOptions(labels=str(labels))}
    request = Request(
        ("m0",), ("coreml",), weights="seeded", image_size=square(64), golden=photos, options=options, out=tmp_path
    )
    contents, tasks = Contents(), tasks_of(request)
    shipment = pickle.loads(pickle.dumps(Shipping(contents, Silent()).of(tasks)))
    assert shipment.tasks == tasks
    assert shipment.weights is None  # a worker draws them itself
    blobs = Blobs(tmp_path / "blobs")
    for digest in shipment.digests:
        blobs.put(digest, contents.read(digest))
    for path in (photos / "black.png", labels):
        path.unlink()
    with shipment.opened(blobs, tmp_path / "scratch") as (task,):
        there = task.request
        assert there.golden is not None
        assert there.golden == tmp_path / "scratch" / "input-0" / "photos"
        assert (there.golden / "black.png").is_file()
        assert task.job == there.jobs()[0]
        (file,) = task.job.options.files()
        assert file.name == "labels.txt"
        assert file.read_text().startswith("class 0\n")
        assert there.out == tmp_path / "scratch" / "made"
    with pytest.raises(BadGoldenSet) as caught, shipment.opened(blobs, tmp_path / "again") as (task,):
        raise BadGoldenSet(f"{task.request.golden}/x.png is no image", got=f"{task.request.golden}")
    assert (caught.value.what, caught.value.got) == (f"{photos}/x.png is no image", str(photos))
