"""A real export on a real worker; who is refused; TLS; a scheduler that goes; what a stopped client leaves."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client
from PIL import Image

from efficientvit.digests import file_digest
from efficientvit.errors import BadOption, MissingExtra, Unavailable
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from export.cli.main import cli
from export.cluster import shards
from export.cluster.address import Cluster, parse_cluster
from export.cluster.dispatch import SchedulerGone
from export.cluster.shards import Across
from export.folder.exported import open_exported
from tests.command_line import ROOT, SEARCHED
from tests.export.cluster.asking import SLUGS, Heard, Who, asked, export
from tests.export.cluster.hosts import Hosts, Process
from tests.export.conftest import TINY, Command, Exported
from tests.export.pipeline.eval_folder import write_eval_folder
from tests.shared import SHARED

_OPENSSL = shutil.which("openssl")


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Workers that really work, the second beside the first, and one of another version with other tools.

    They make themselves what they are asked for, and take nothing that the suite has.
    """
    hosts = Hosts(tmp_path_factory.mktemp("hosts") / "hosts", environment={SHARED: ""})
    try:
        hosts.start("real", shard_bytes=1)
        hosts.start("helper", "--no-timing", shard_bytes=1, lacks=["target-coreml"])
        hosts.start("old", says={"version": "0.0.1", "tools": {"torch": "1.0"}})
        for name in hosts.workers:
            hosts.joined(name)
        yield hosts
    finally:
        hosts.stop()


def test_the_same_as_without_a_cluster(at_work: Hosts, command: Command, tmp_path: Path) -> None:
    """Photos and weights go to the worker by their digests; a worker of another version is named, and gets nothing."""
    save_checkpoint(seeded(model_spec("m0", square(64)), 3), tmp_path / "best.safetensors")
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)).save(photo)
    write_eval_folder(tmp_path / "labeled", seeded(model_spec("m0", square(64)), 3), 40)
    given = ("m0", "--image-size", "64", "-w", "best.safetensors", "--golden", "photos", "--no-time", "-t", "onnx",
             "--eval", "labeled")  # fmt: skip
    ran = command(*given, "-o", "out", "--json", "--cluster", at_work.address)
    assert ran.code == 0, ran.err
    assert re.search(r"worker old \(\S+\) is refused: vit-export 0\.0\.1 there, \S+ here; torch 1\.0 there", ran.err)
    assert list(at_work.folder.glob(f"dask-scratch-space/*/shipped/{file_digest(photo)}"))

    alone = command(*given, "-o", "alone", "--json", "--jobs", "1")
    assert alone.code == 0, alone.err
    (folder,), (other,) = ((tmp_path / name).iterdir() for name in ("out", "alone"))
    names = [path.relative_to(folder) for path in folder.rglob("ship/*")]
    assert names
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)
    own, same = (json.loads((each / "manifest.json").read_text()) for each in (folder, other))
    for part in ("artifact", "model", "weights", "golden", "reference", "precision", "self_check", "host", "tools",
                 "accuracy"):  # fmt: skip
        assert own[part] == same[part], part
    assert own["stages"][-1]["verdict"] == same["stages"][-1]["verdict"]


def test_others_answer_labeled_images_too_and_the_answers_are_the_same(
    at_work: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    batches = [np.arange(start, min(start + 8, 50)) for start in range(0, 50, 8)]
    with Client(at_work.address, set_as_default=False) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        others = [address for address, each in workers.items() if each["name"] in ("real", "helper")]
        who, steps = Who(at_work.address, os.getpid()), list[int]()

        def step(number: int) -> None:
            """Before the second batch answered here, wait for news of one elsewhere, which may have come before."""
            steps.append(number)
            until = time.monotonic() + 5
            while (
                len(steps) == 2
                and time.monotonic() < until
                and not any(
                    state.status == "finished" for key, state in client.futures.items() if "answer_shard" in str(key)
                )
            ):
                time.sleep(0.01)

        found = Across(client, others, frozenset()).answers(who, pixels, batches, step)
    assert [len(answer) for answer in found] == [len(rows) for rows in batches]
    sums, processes = np.concatenate(found).T
    assert sums.tolist() == pixels.sum(axis=(1, 2, 3)).tolist()
    assert os.getpid() in processes
    assert len(set(processes)) >= 2
    assert steps


def _documented(heading: str) -> list[list[str]]:
    """The commands below a heading of docs/cluster.md, as words."""
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").partition(f"# {heading}\n")[2]
    lines = text.split("```")[1].strip().splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def test_the_first_commands_of_the_page_are_commands() -> None:
    (dask, *_), (_, worker, address), (_, *arguments) = _documented("Many machines")
    assert (dask, worker) == ("dask", "worker")
    assert address == arguments[arguments.index("--cluster") + 1]
    command = cli.commands["export"]
    with command.make_context("export", arguments) as context:
        assert context.params["cluster"] == address
        assert context.params["targets" if "targets" in context.params else "target"] == ("onnx", "coreml")


@pytest.mark.skipif(_OPENSSL is None, reason="no openssl on this machine")
def test_tls_as_the_page_sets_it_up(tmp_path: Path, exported: Exported, command: Command) -> None:
    """Whoever has no certificate of the authority, or talks without TLS, is not let in."""
    *openssl, dask, worker, client = _documented("TLS")
    folders = [tmp_path, tmp_path / "strange"]
    folders[1].mkdir()
    (tmp_path / "faults").mkdir()
    for folder in folders:
        for arguments in openssl:
            subprocess.run(arguments, cwd=folder, check=True, capture_output=True)

    def here(words: list[str], folder: Path = tmp_path) -> list[str]:
        return [str(folder / word) if word.endswith((".pem", ".key")) else word for word in words]

    assert dask[:2] == ["dask", "scheduler"]
    place = dask.index("--port")
    hosts = Hosts(tmp_path / "hosts", here([*dask[2:place], *dask[place + 2 :]]), here(worker[3:]))
    try:
        assert hosts.address.startswith("tls://")
        hosts.start("one", serves=exported.out, faults=tmp_path / "faults")
        tail = client[client.index("--cluster") + 2 :]
        ran = command(*TINY, "-t", "onnx", "--cluster", hosts.address, *tail)
        assert ran.code == 0, ran.err
        open_exported(tmp_path / "exports" / SLUGS["onnx"])
        strange = here(tail, folders[1])
        for wrong in ((hosts.address, *strange), (hosts.address.replace("tls:", "tcp:"),)):
            refused = command(
                *TINY, "-t", "onnx", "-o", "none", "--no-cache", "--cluster-wait", "3", "--cluster", *wrong
            )
            assert refused.code == 3, refused.err
            assert "cannot reach the scheduler" in refused.err
        assert not list((tmp_path / "none").iterdir())
    finally:
        hosts.stop()


def test_a_scheduler_that_goes_leaves_what_is_done(tmp_path: Path, exported: Exported) -> None:
    hosts = Hosts(tmp_path / "hosts")
    (tmp_path / "faults").mkdir()
    try:
        hosts.start("one", serves=exported.out, faults=tmp_path / "faults")
        request = asked(tmp_path / "out", "onnx", "coreml")
        coming = export(request, Heard(), cluster=Cluster(hosts.address), wait_s=60)
        done = next(coming)
        hosts.scheduler.process.kill()
        with pytest.raises(SchedulerGone, match="connection to the scheduler was lost") as caught:
            list(coming)
        assert "what was published stays" in str(caught.value)
        assert [path.name for path in (tmp_path / "out").iterdir()] == [done.slug]
        open_exported(done.folder)
        assert hosts.workers["one"].process.wait(60) is not None  # a worker without a scheduler ends
    finally:
        hosts.stop()


def test_a_stopped_client_leaves_nothing_half_made_and_its_worker_free(at_work: Hosts, tmp_path: Path) -> None:
    process = Process(
        [
            "-m",
            "export",
            *TINY,
            "-t",
            "coreml",
            "-o",
            str(tmp_path / "out"),
            "--no-cache",
            "--cluster",
            at_work.address,
        ],
        tmp_path,
    )
    process.line(re.compile("weights:"))  # the worker has said so: it is at work
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(60) == 130
    assert "Traceback" not in "".join(process.log)
    assert list((tmp_path / "out").iterdir()) == []
    with Client(at_work.address, set_as_default=False) as client:
        (real,) = [a for a, w in client.scheduler_info(n_workers=-1)["workers"].items() if w["name"] == "real"]
        assert client.submit(abs, -1, workers=[real], pure=False).result(timeout=200) == 1  # it is free


def test_a_local_cluster_ends_with_its_command(tmp_path: Path) -> None:
    process = Process(
        ["-m", "export", *TINY, "-t", "coreml", "-o", str(tmp_path / "out"), "--no-cache", "--cluster", "local:1"],
        tmp_path,
    )
    process.line(re.compile("weights:"))
    started = psutil.Process(process.process.pid).children(recursive=True)
    assert started
    os.killpg(process.process.pid, signal.SIGINT)
    assert process.process.wait(60) == 130
    assert "Traceback" not in "".join(process.log)
    assert list((tmp_path / "out").iterdir()) == []
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    ("address", "files", "why"),
    [
        ("scheduler:8786", 0, "is no cluster"),
        ("local:0", 0, "is no cluster"),
        ("tls://a:1", 0, "TLS needs"),
        ("tls://a:1", 2, "TLS needs"),
        ("tcp://a:1", 3, "TLS needs"),
        ("local:2", 3, "TLS needs"),
        ("tls://a:1", 3, "--tls-ca names no file"),
    ],
)
def test_what_makes_no_sense_is_refused(address: str, files: int, why: str) -> None:
    with pytest.raises(BadOption, match=why):
        parse_cluster(address, *[Path("nowhere")] * files)


def test_addresses() -> None:
    assert parse_cluster("local:3") == Cluster(None, 3)
    assert str(parse_cluster("tcp://scheduler.example:8786")) == "tcp://scheduler.example:8786"
    assert parse_cluster("tcp://[::1]:8786").address == "tcp://[::1]:8786"


def test_without_dask_it_is_said_before_any_work(command: Command, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = command(*TINY, "-t", "onnx", "--cluster", "local:2")
    assert ran.code == 3
    assert "running on a cluster needs the package 'distributed'" in ran.err
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingExtra):
        parse_cluster("local:1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--cluster", "local:2", "--jobs", "2"), "--cluster has workers"),
        (("--tls-ca", "ca.pem"), "are for a cluster"),
    ],
)
def test_options_that_exclude_each_other(arguments: tuple[str, ...], why: str, command: Command) -> None:
    ran = command(*TINY, *arguments)
    assert ran.code == 2
    assert why in ran.err


def test_nobody_listens(tmp_path: Path) -> None:
    request = asked(tmp_path / "out", "onnx")
    with pytest.raises(Unavailable, match=re.escape("cannot reach the scheduler tcp://127.0.0.1:9")):
        list(export(request, Heard(), cluster=Cluster("tcp://127.0.0.1:9"), wait_s=1))
    done = subprocess.run(
        [sys.executable, "-m", "export", "worker", "tcp://127.0.0.1:9", "--cluster-wait", "1"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": SEARCHED}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "error: cannot reach the scheduler tcp://127.0.0.1:9" in done.stderr
