"""Local functions of an ONNX file, put in the place of the nodes that call them."""

from typing import Any

from efficientvit.errors import BrokenArtifact, UnknownOperation

_DOMAINS_OF_OPERATORS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def inlined(model: Any) -> Any:
    """The onnx.ModelProto without local functions.

    Raises:
        BrokenArtifact: they cannot be inlined, or runtimes may not understand one alike.
    """
    if not model.functions:
        return model
    import onnx.inliner

    _require_plain(model)
    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError) as error:
        raise BrokenArtifact("the ONNX file's functions cannot be inlined", got=str(error).splitlines()[0]) from error


def _require_plain(model: Any) -> None:
    """Local functions that every runtime understands alike.

    Raises:
        BrokenArtifact: one has the name of an operator, which a runtime may take in its place, or another opset.
    """
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    for function in model.functions:
        name = f"'{function.domain or 'ai.onnx'}.{function.name}'"
        if function.domain in _DOMAINS_OF_OPERATORS:
            raise UnknownOperation(function.name, f"the function {name} of the ONNX file has an operator's name")
        if any(versions.get(entry.domain or "ai.onnx", entry.version) != entry.version
               for entry in function.opset_import):  # fmt: skip
            raise UnknownOperation(function.name, f"the function {name} of the ONNX file has an opset of its own")
