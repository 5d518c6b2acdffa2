"""Faults in what a Core ML package takes, gives and says of itself."""

from export.selftest.faults.coreml.package import FLOAT16, Package, given, inner, opened, renamed, shape
from export.selftest.faults.fault import Rng, Table, in_file, pick
from runtimes.interface import METADATA_PREFIX, OUTPUT

fault = Table("coreml", in_file(opened), "fp16 coreml")


@fault("interface")
@fault("interface", "int8 compress", rare=True)
def other_digest(package: Package, rng: Rng) -> None:
    """Another digest of the weights, by one digit."""
    said = package.model.description.metadata.userDefined
    key = pick(rng, sorted(key for key in said if key.endswith("-sha256")))
    i, digest = int(rng.integers(64)), said[key]
    said[key] = f"{digest[:i]}{(int(digest[i], 16) + 1) % 16:x}{digest[i + 1 :]}"


@fault("interface")
def missing_key(package: Package, rng: Rng) -> None:
    """A key of the metadata left out."""
    said = package.model.description.metadata.userDefined
    del said[pick(rng, sorted(key for key in said if key.startswith(METADATA_PREFIX)))]


@fault("interface")
def additional_key(package: Package, rng: Rng) -> None:
    """Something said in our name that we did not say."""
    package.model.description.metadata.userDefined[f"{METADATA_PREFIX}accuracy"] = "99.9%"


@fault("interface")
def other_field(package: Package, rng: Rng) -> None:
    """Author, license, version or description."""
    metadata = package.model.description.metadata
    name = pick(rng, ["author", "license", "versionString", "shortDescription"])
    setattr(metadata, name, f"{getattr(metadata, name)}.")


@fault("interface")
def renamed_output(package: Package, rng: Rng) -> None:
    """An app that reads `logits` finds nothing of that name; the numbers are right."""
    renamed(package, OUTPUT, "scores")


@fault("interface")
def renamed_inside(package: Package, rng: Rng) -> None:
    """An output that the program calls otherwise than the description."""
    renamed(package, OUTPUT, "scores", described=False)


@fault("interface")
def unreturned(package: Package, rng: Rng) -> None:
    """An output that the program computes and does not return."""
    package.block.outputs.remove(OUTPUT)


@fault("interface")
def additional_output(package: Package, rng: Rng) -> None:
    """One output more, described as it is."""
    _returned(package, rng)
    output = package.model.description.output.add(name=package.block.outputs[-1])
    array = output.type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")
    array.shape[:] = shape(package.maker(output.name).outputs[0])


def _returned(package: Package, rng: Rng) -> None:
    package.block.outputs.append(inner(package, rng).outputs[0].name)


@fault("interface")
def undescribed_output(package: Package, rng: Rng) -> None:
    """One output more that the description is silent about."""
    _returned(package, rng)


@fault("interface")
def undescribed_input(package: Package, rng: Rng) -> None:
    """One input more that the description is silent about: nobody can feed it."""
    package.function.inputs.add(name="more").type.CopyFrom(package.function.inputs[0].type)


@fault("interface")
def half_input(package: Package, rng: Rng) -> None:
    """A program that takes fp16 where the description's image becomes float32."""
    package.function.inputs[0].type.tensorType.dataType = FLOAT16


@fault("interface")
def half_logits(package: Package, rng: Rng) -> None:
    """Logits in fp16, described as float32: the last cast is lost."""
    cast = package.maker(OUTPUT)
    name = given(cast, "x")
    package.block.operations.remove(cast)
    package.maker(name).outputs[0].name = OUTPUT
    package.rewire(name, OUTPUT)


@fault("interface")
def half_logits_described(package: Package, rng: Rng) -> None:
    """The same, and an app is told."""
    half_logits(package, rng)
    array = package.model.description.output[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")


@fault("interface")
def newer_format(package: Package, rng: Rng) -> None:
    """A version of the format that older devices refuse, though nothing in the program needs it."""
    package.model.specificationVersion += int(rng.integers(1, 3))
