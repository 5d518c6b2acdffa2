"""What a host can do, as Dask resources; and which of them a job or a device kit needs.

    target-onnx              it can make the target
    onnx-native              the format's own runtime runs here, so that evidence is native
    tensorrt-native:sm89     the same, on a GPU of this compute capability
    openvino:avx512_vnni     the runtime is on a CPU with this instruction set
    saturates-int8           sums of uint8 x int8 saturate on this CPU: int8 goes elsewhere where it can
    timing                   latencies measured here count
    cpu:0123456789ab         digest of the CPU's model and instruction sets: the same arithmetic, to the bit

Each has the amount 1: a worker does one thing at a time.
"""

import hashlib
from collections.abc import Iterable, Mapping

from efficientvit.errors import StageFailed
from export.commands.doctor import examine
from export.device_kit.formats import has_kit
from export.folder.exported import Exported
from export.targets.registry import TARGETS
from export.targets.target import Job
from runtimes.artifact import Format
from runtimes.host.gpu import compute_capabilities
from runtimes.host.machine import Host, this_host
from runtimes.precision import Dtype

TIMING, SATURATES = "timing", "saturates-int8"
_ON_CPU = (Format.ONNX, Format.OPENVINO)


def of_this_host(*, timing: bool) -> Mapping[str, float]:
    """This host's resources, from what `vit-export doctor` finds. `timing`: its latencies count."""
    host, abilities = examine()
    names = [makes(each.target) for each in abilities if each.can_make]
    for each in abilities:
        if not each.can_time:
            continue
        names.append(native(each.target))
        try:
            kind = TARGETS[each.target].format
        except StageFailed:  # a broken plug-in; `doctor` shows why
            continue
        if kind in _ON_CPU:
            names += [f"{each.target}:{extension}" for extension in host.extensions]
        if kind == Format.ENGINE:
            names += [f"{native(each.target)}:sm{sm}" for sm in compute_capabilities()]
    names += [SATURATES] if host.saturates_int8 else []
    names += [TIMING] if timing else []
    names.append(same_bits(host))
    return dict.fromkeys(names, 1.0)


def same_bits(host: Host | None = None) -> str:
    """The resource of hosts whose arithmetic is the same."""
    host = host or this_host()
    return f"cpu:{hashlib.sha256(f'{host.cpu} {host.architecture} {host.extensions}'.encode()).hexdigest()[:12]}"


def makes(target: str) -> str:
    """The resource of a host that can make the target's files."""
    return f"target-{target}"


def native(target: str) -> str:
    """The resource of a host whose evidence on the target's files is native."""
    return f"{target}-native"


def needed_for(jobs: Iterable[Job], *, timed: bool) -> frozenset[str]:
    """The resources of a worker that makes these jobs. `timed`: what passes is timed there."""
    made = {makes(job.target.name) for job in jobs}
    return frozenset(made | {TIMING}) if timed else frozenset(made)


def better_without(jobs: Iterable[Job]) -> frozenset[str]:
    """What a worker should not have, if there is another: int8 of full range on a CPU that saturates is rejected."""
    made = [precision for job in jobs for _, precision in job.plan]
    full = any(each.activations is Dtype.UINT8 and each.weights is not Dtype.INT7 for each in made)
    return frozenset({SATURATES}) if full else frozenset()


def needed_to_check(job: Job, exported: Exported, *, timed: bool) -> tuple[frozenset[str], ...]:
    """The resources of a worker that can run this folder's device kit, the best first; none where there is no kit.

    An engine is for certain GPUs; another can build it again from its ONNX file.
    """
    artifact = exported.artifact
    if not has_kit(artifact.format, artifact.batch) or not exported.reference.gives_logits:
        return ()
    base = frozenset({native(job.target.name), *([TIMING] if timed else [])})
    capabilities = exported.manifest.tensorrt.sm if exported.manifest.tensorrt is not None else ()
    return (*(base | {f"{native(job.target.name)}:sm{sm}"} for sm in capabilities), base)
