"""Loaded by Dask into the workers of tests (`--preload`): what else they offer, and what goes wrong on them.

The environment variable VIT_EXPORT_TESTS_WORKER is JSON: `adds` and `lacks`, resources; `says`, in the place of what
the worker says of itself; `shard_bytes`, the size of shards of labeled images; `serves`, a folder of finished exports
that are handed over in place of new ones; `faults`, a folder of empty files, each a fault that happens once: `7-kill`
to whichever task takes it first; `cpu`, what its host's is called; `works_in`, its working directory; `rejects`, true
where nothing is done about what is rejected, which takes long.

PyTorch is imported where it is needed: most of these workers are there to hand over files, or to die.
"""

import errno
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from efficientvit.files import parse_json
from export.cluster import kit_run, shards, tasks
from export.cluster.errand import Calling
from export.cluster.identity import EXTRA, identity
from export.cluster.tasks import Answer, Making
from export.exits import Exit
from export.pipeline.finished import Finished
from export.request.request import slug
from runtimes.host import machine
from runtimes.runtime import Evidence

_PATIENCE_S = 60.0
STANDINS = Path(__file__).parents[1] / "device_kit"


def dask_setup(worker: Any) -> None:
    """Before the worker registers."""
    told = json.loads(os.environ["VIT_EXPORT_TESTS_WORKER"])
    offered = worker.state.total_resources
    for name in told.get("lacks", ()):
        offered.pop(name, None)
    offered.update(dict.fromkeys(told.get("adds", ()), 1.0))
    worker.state.available_resources = dict(offered)
    if "shard_bytes" in told:
        shards._SHARD_BYTES = told["shard_bytes"]
    if "says" in told:
        worker.startup_information[EXTRA] = lambda _: _changed(identity(), told["says"])
    if "works_in" in told:
        os.chdir(told["works_in"])
    if "cpu" in told:
        info = {**machine._cpuinfo(), "model name": told["cpu"]}
        setattr(machine, "_cpuinfo", lambda: info)  # noqa: B010
        machine.this_host.cache_clear()
    if "rejects" in told:
        from export.pipeline import judging
        from export.targets.onnx import mixed_precision
        from export.targets.onnx.float_choice import Choice
        from validation.blame.ranking import Blame

        setattr(mixed_precision, "sensitivities", lambda *_: [])  # noqa: B010
        setattr(Choice, "cheapest", lambda *_: None)  # noqa: B010
        setattr(judging, "blame_artifact", lambda *_, **__: Blame(()))  # noqa: B010
    if "serves" in told:
        serves, faults = Path(told["serves"]), Path(told["faults"])
        setattr(kit_run, "environment", partial(_standin, serves, faults))  # noqa: B010

        def done(task: Making, blobs: Any, scratch: Path, address: str, others: Any) -> Answer:
            return _served(task, serves, faults, address)

        setattr(tasks.Making, "done", done)  # noqa: B010 - of a type that mypy knows better
        call = Calling.done

        def called(task: Calling, *given: Any) -> Answer:
            return _spoiled(call(task, *given), _claimed(faults))

        setattr(Calling, "done", called)  # noqa: B010


def _changed(own: dict[str, Any], says: Mapping[str, Any]) -> dict[str, Any]:
    tools = {**own["tools"], **says.get("tools", {})}
    return {**own, **says, "tools": tools}


def _claimed(faults: Path) -> str:
    """A fault that no other task has; empty where there is none left."""
    for path in sorted(faults.glob("[0-9]*")):
        try:
            path.rename(path.with_name(f"done-{path.name}"))
        except FileNotFoundError:
            continue
        return path.name.partition("-")[2]
    return ""


def _meet(faults: Path) -> None:
    """Wait for another worker that does so too."""
    (faults / f"met-{os.getpid()}").touch()
    until = time.monotonic() + _PATIENCE_S
    while len(list(faults.glob("met-*"))) < 2:
        assert time.monotonic() < until, "nobody else was at work"
        time.sleep(0.05)


def _served(task: Making, serves: Path, faults: Path, worker: str) -> Answer:
    fault = _claimed(faults)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "meet":
        _meet(faults)
    if fault == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    contents: dict[str, bytes] = {}
    folders = []
    for each in task.shipment.tasks:
        request, job = each.request, each.job
        assert request.image_size is not None
        name = slug(job, request.image_size, "untrained")
        manifest = parse_json((serves / name / "manifest.json").read_bytes())
        folder = tasks._folder(each.number, Finished(job, name, serves / name, manifest), contents)
        folders.append(_as_required(folder, manifest, request, contents))
    first = folders[0]
    shipped = next(name for name in first.files if name.startswith("ship/efficientvit"))
    if fault == "corrupt":
        digest = first.files[shipped]
        contents[digest] = _flipped(contents[digest])
    if fault == "forged":  # its digest is right, and the manifest's is another
        content = _flipped(contents[first.files[shipped]])
        digest = hashlib.sha256(content).hexdigest()
        contents[digest] = content
        folders[0] = replace(first, files={**first.files, shipped: digest})
    if fault == "outside":
        folders[0] = replace(first, files={**first.files, "../outside": first.files[shipped]})
    if fault == "short":
        del folders[0]
    if fault == "lost":
        del contents[first.files[shipped]]
    if fault == "twice":
        folders.append(folders[-1])
    return Answer(worker, folders=tuple(folders), contents=contents)


def _spoiled(answer: Answer, fault: str) -> Answer:
    """What a call wrote."""
    if not fault:
        return answer
    (folder,), contents = answer.folders, dict(answer.contents)
    digest = next(iter(folder.files.values()))
    if fault == "corrupt":
        contents[digest] = _flipped(contents[digest])
    if fault == "outside":
        folder = replace(folder, files={**folder.files, "../outside": digest})
    return replace(answer, folders=(folder,) if fault != "short" else (), contents=contents)


def _as_required(folder: Any, manifest: Any, request: Any, contents: dict[str, bytes]) -> Any:
    """What was exported without `--require native` as it would be with it."""
    if request.require is not Evidence.NATIVE or manifest["stages"][-1]["verdict"]["evidence"] == Evidence.NATIVE:
        return folder
    content = json.dumps({**manifest, "exit_code": int(Exit.NOT_VERIFIED)}).encode()
    digest = hashlib.sha256(content).hexdigest()
    contents[digest] = content
    return replace(folder, files={**folder.files, "manifest.json": digest})


def _flipped(content: bytes) -> bytes:
    spoiled = bytearray(content)
    spoiled[len(spoiled) // 2] ^= 1
    return bytes(spoiled)


def _standin(serves: Path, faults: Path, kit: Path) -> Mapping[str, str]:
    """Of a device that answers what the reference of the served export says: the stand-ins of the kits' own tests."""
    from validation.reference import file

    data = kit / "data"
    content = (data / "kit.json").read_bytes()
    (served,) = [path.parents[2] for path in serves.glob("*/kit/data/kit.json") if path.read_bytes() == content]
    reference = file.load(served / "evidence")
    cases = json.loads(content)["cases"]
    digests = [hashlib.sha256((data / case["input"]).read_bytes()).hexdigest() for case in cases]
    rows = [reference.golden.names.index(case["name"].split(" in a batch")[0]) for case in cases]
    logits = reference.logits[rows]
    np.savez(kit / "table.npz", digests=np.array(digests), logits=logits)
    (kit / "log").touch()
    noise = 10.0 if _claimed(faults) == "noisy" else 1e-3
    plan = {"noise": noise, "unit": {}, "wrong": "", "log": str(kit / "log"), "table": str(kit / "table.npz")}
    engine = data / "model.engine"
    if engine.is_file():
        shipped = hashlib.sha256(engine.read_bytes()).hexdigest()
        plan |= {"batches": [1], "gpus": 1, "graph": None, "missing": [], "real": False, "shipped": shipped}
    (kit / "plan.json").write_text(json.dumps(plan))
    place = STANDINS / ("standin_gpu" if engine.is_file() else "standin")
    return {**os.environ, "PYTHONPATH": str(place), "STANDIN": str(kit / "plan.json")}
