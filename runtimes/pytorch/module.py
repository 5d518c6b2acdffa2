"""PyTorch eager: modules in memory, the reference's and the deploy form's own runtime."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadInput
from runtimes.host.machine import this_host, version
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation
from runtimes.session import OpenSession

if TYPE_CHECKING:
    from torch import nn

# What PyTorch calls arithmetic that keeps all of float32's bits; anything else allows tf32 or bfloat16.
_EXACT = ("none", "ieee")


class TorchSession(OpenSession):
    """A module as a session: (B, 3, H, W) float32 -> (B, classes) float32 under `inference_mode`.

    Raises:
        BadInput: the module is in training mode, or not float32 throughout.
    """

    def __init__(self, module: "nn.Module") -> None:
        import torch

        def run(images: Array) -> Array:
            # A copy: a view of read-only memory would warn, and the module might write to its input.
            with torch.inference_mode():
                logits: Array = module(torch.tensor(images)).numpy()
            return logits

        _require_float32_eval(module)
        super().__init__(attest(), (None, 3, None, None), run)


@contextmanager
def open_module(module: "nn.Module", threads: int = 1) -> Iterator[TorchSession]:
    """Run `module` on `threads` threads; the count is the whole process's, and is put back on exit.

    Raises:
        BadInput: the module is in training mode, or not float32 throughout.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with closing(TorchSession(module)) as session:
            yield session
    finally:
        torch.set_num_threads(before)


def _require_float32_eval(module: "nn.Module") -> None:
    import torch

    tensors = [*module.named_parameters(), *module.named_buffers()]
    foreign = [name for name, t in tensors if t.is_floating_point() and t.dtype != torch.float32]
    if foreign or module.training:
        raise BadInput(
            "the module cannot be run as the float32 model that it stands for",
            expected="float32 throughout, in eval mode",
            got=f"'{foreign[0]}' of another dtype" if foreign else "training mode",
            next_step="pass `module.float().eval()`",
        )


def attest() -> Attestation:
    """How PyTorch computes in this process now."""
    import torch

    mkldnn: Any = torch.backends.mkldnn  # its stub leaves out half of it
    precisions = {
        "backends.mkldnn.fp32_precision": mkldnn.fp32_precision,
        "backends.mkldnn.conv.fp32_precision": mkldnn.conv.fp32_precision,
        "backends.mkldnn.matmul.fp32_precision": mkldnn.matmul.fp32_precision,
    }
    return Attestation(
        runtime="torch",
        version=version("torch"),
        precision=Dtype.FP32 if all(value in _EXACT for value in precisions.values()) else Dtype.BF16,
        threads=torch.get_num_threads(),
        isa=this_host().isa,
        settings={
            "backends.cpu.get_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "backends.mkldnn.is_available": str(mkldnn.is_available()),
            "backends.mkldnn.enabled": str(mkldnn.enabled),
            "get_float32_matmul_precision": torch.get_float32_matmul_precision(),
            **precisions,
        },
    )
