"""Stages `parse` and `build`: typed ONNX, as TensorRT understands it, and the engine.

`parse` hands the typed file on unchanged, to be judged by what TensorRT's importer makes of it. `build` makes the
engine with what the host has: enterprise TensorRT on a GPU host, TensorRT for RTX ahead of time elsewhere.
"""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from efficientvit.errors import StageFailed
from efficientvit.files import replace_file
from export.targets.tensorrt.options import DEFAULT_ARCHITECTURES, LAYERS, TensorRtOptions
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import peak_rss_bytes
from runtimes.interface import INPUT
from runtimes.tensorrt.api import Parsed, Product, parsed, product

_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_LISTED = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: (?P<rest>.*)$", re.MULTILINE)
_DTYPE = re.compile(r"Datatype: (\w+)")


def parse(source: Artifact, out: Path) -> Artifact:
    """The typed file under its own name, once TensorRT's parser has taken it.

    Raises:
        MissingExtra: neither product is installed.
        StageFailed: the parser refuses it, naming the node.
    """
    using = product()
    shutil.copyfile(source.path, out)
    with parsed(out, using):
        pass
    return source.becomes(out, "parse", file_format=Format.NETWORK, tools=((using.name, using.version),))


def build(source: Artifact, out: Path, options: TensorRtOptions) -> Artifact:
    """Write the engine `out`, the typed ONNX file beside it, and the list of compiled layers.

    Raises:
        MissingExtra: neither product is installed.
        StageFailed: the parser or the builder refuses it.
    """
    using = product()
    started = time.perf_counter()
    with parsed(source.path, using) as network:
        config = _config(network, options)
        cache = _timing_cache(config, using, options)
        _profile(network, config, options)
        plan = network.builder.build_serialized_network(network.network, config)
        messages = network.messages
        if plan is None:
            raise StageFailed(
                f"{using.name} {using.version} could not build the engine",
                got=messages.errors(),
                next_step="a layer's name begins with the module of the model that it comes from",
            )
        out.write_bytes(bytes(plan))
        _keep(cache, config, options)
    shutil.copyfile(source.path, out.with_suffix(".onnx"))
    layers = list(compiled_layers(messages.of("VERBOSE", "INFO")))
    listing = {"product": using.name, "version": using.version, "layers": layers}
    out.with_name(LAYERS).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    seconds = time.perf_counter() - started
    return source.becomes(
        out,
        "build",
        file_format=Format.ENGINE,
        tools=((using.name, using.version),),
        settings=_settings(using, options, source),
        notes=_notes(layers, seconds, _unused(using, options)),
    )


def _config(network: Parsed, options: TensorRtOptions) -> Any:
    trt = network.product.trt
    config = network.builder.create_builder_config()
    # On by default, and it rounds float32 to ten bits: precision is the file's to say.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the layers have no names
    if not network.product.enterprise:
        config.num_compute_capabilities = len(options.sm)
        for index, sm in enumerate(options.sm):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{sm}"), index)
    return config


def _profile(network: Parsed, config: Any, options: TensorRtOptions) -> None:
    """The batches that an engine with a dynamic one takes."""
    shape = tuple(network.network.get_input(0).shape)
    if shape[0] != -1:
        return
    profile = network.builder.create_optimization_profile()
    profile.set_shape(INPUT, *((batch, *shape[1:]) for batch in options.profile))
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, using: Product, options: TensorRtOptions) -> Any:
    """What earlier enterprise builds measured of kernels; ahead of time nothing is measured, and RTX asks for a GPU."""
    if options.timing_cache is None or not using.enterprise:
        return None
    known = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # another version's, or another GPU's
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _keep(cache: Any, config: Any, options: TensorRtOptions) -> None:
    if cache is None or options.timing_cache is None:
        return
    measured = bytes(config.get_timing_cache().serialize())
    replace_file(options.timing_cache, lambda part: part.write_bytes(measured))


def _settings(using: Product, options: TensorRtOptions, source: Artifact) -> tuple[tuple[str, str], ...]:
    targets = "this host's GPU" if using.enterprise else " ".join(str(sm) for sm in options.sm)
    settings = [("product", using.name), ("version", using.version), ("sm", targets), ("tf32", "off")]
    if source.batch is None:
        settings.append(("batches", "-".join(map(str, options.profile))))
    return tuple(settings)


def _unused(using: Product, options: TensorRtOptions) -> tuple[str, ...]:
    """The options that mean nothing to the product at hand: said, for nobody can know before which it will be."""
    if using.enterprise and options.sm != DEFAULT_ARCHITECTURES:
        return ("--sm was not used: enterprise TensorRT builds for the GPU of its host",)
    if not using.enterprise and options.timing_cache is not None:
        return ("--timing-cache was not used: TensorRT for RTX times no kernels ahead of time",)
    return ()


def _notes(layers: Sequence[dict[str, Any]], seconds: float, more: tuple[str, ...]) -> tuple[str, ...]:
    dtypes = Counter(layer["dtype"] for layer in layers if layer["dtype"])
    what = ", ".join(f"{count} in {dtype}" for dtype, count in dtypes.most_common())
    return (
        f"{len(layers)} compiled layers: {what or 'not listed'} ({LAYERS} in evidence)",
        f"built in {seconds:.1f} s, at most {peak_rss_bytes() / 2**20:.0f} MiB of memory in this process",
        *more,
    )


def compiled_layers(messages: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the builder lists, verbosely, of the compiled engine: name, kind, dtype of the output, and ONNX nodes."""
    seen: set[str] = set()
    for message in messages:
        for found in _LISTED.finditer(message):
            if found["name"] in seen:  # of several architectures each lists its own
                continue
            seen.add(found["name"])
            dtypes = _DTYPE.findall(found["rest"].partition("Outputs: ")[2])
            yield {
                "name": found["name"],
                "kind": found["type"],
                "dtype": dtypes[0] if dtypes else None,
                "onnx": _ONNX_LAYER.findall(found["rest"]),
            }
