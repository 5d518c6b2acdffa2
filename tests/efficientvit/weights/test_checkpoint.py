"""Sound checkpoints give the public implementations' logits; every unsound one is refused by name."""

import argparse
import gzip
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from efficientvit.digests import file_digest
from efficientvit.errors import BadCheckpoint, BadOption, BadOutput, UnknownModel
from efficientvit.model import EfficientViT, build
from efficientvit.size import ImageSize, square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.checkpoint import load_checkpoint, resize_bias_table, save_checkpoint
from efficientvit.weights.keymaps import Layout
from efficientvit.weights.reading import Reading

State = dict[str, Tensor]
GoldenState = Callable[[str, str], State]
Written = Callable[[Mapping[str, Tensor], str], Path]
FILES = {"official": "weights.pth", "timm": "model.safetensors"}
STEM = "patch_embed.0.c.weight"


@pytest.fixture
def m0(golden_state: GoldenState) -> State:
    """The authors' M0, to be spoiled."""
    return golden_state("official", "m0")


def relative_error(got: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


# --- The same logits as the public implementations ---------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", FILES)
def test_golden_logits(
    layout: str,
    model: str,
    golden_state: GoldenState,
    golden_logits: Callable[[str, str], NDArray[np.float64]],
    golden_images: Tensor,
    written: Written,
) -> None:
    path = written(golden_state(layout, model), FILES[layout])
    loaded = load_checkpoint(path, model)
    assert loaded.layout == layout
    assert loaded.size_assumed
    assert ["224, as the published weights" in note for note in loaded.notes] == [True]
    assert loaded.sha256 == file_digest(path)
    assert path.name in loaded.source
    assert ("'model'" in loaded.source) == (layout == "official")
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    with torch.inference_mode():
        got = loaded.model.double()(golden_images).numpy()
    assert relative_error(got, golden_logits(layout, model)) < 1e-10


@pytest.mark.parametrize(("model", "size"), [("m0", 224), ("m5", 224), ("m0", 384), ("m4", 384), ("m2", 512)])
def test_live_timm(model: str, size: int, written: Written) -> None:
    torch.manual_seed(0)
    reference = timm.create_model(f"efficientvit_{model}", img_size=size)
    # As initialized, a BatchNorm scale of zero ends every branch: nothing would be compared.
    with torch.no_grad():
        for name, tensor in reference.state_dict().items():
            if name.endswith("bn.weight"):
                tensor.uniform_(0.3, 0.7)
            elif name.endswith(("attention_biases", "bias", "running_mean")):
                tensor.normal_(0, 0.3)
    path = written(reference.state_dict(), "timm.safetensors")
    ours = load_checkpoint(path, model, square(size))
    assert ours.model.spec.image_size == square(size)
    assert ours.notes == ()
    # timm keeps the attention biases from its first call in eval mode on: eval comes last, after the weights.
    images = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.inference_mode():
        wanted = reference.double().eval()(images).numpy()
        got = ours.model.double()(images).numpy()
    assert relative_error(got, wanted) < 1e-10


# --- Input sizes -------------------------------------------------------------------------------------------


def test_bias_tables_are_resized_as_the_authors_do(m0: State, written: Written) -> None:
    path = written(m0, "weights.pth")
    native, larger = load_checkpoint(path, "m0"), load_checkpoint(path, "m0", image_size=square(384))
    assert larger.model.spec.image_size == square(384)
    assert "(7, 7, 4) of 224" in larger.notes[0]
    assert "bicubic" in larger.notes[0]
    name = "stage3.block1.mixer.branch.attention.bias"
    before, after = native.model.state_dict()[name], larger.model.state_dict()[name]
    wanted = torch.nn.functional.interpolate(before.view(1, 4, 4, 4), size=(6, 6), mode="bicubic").view(4, 36)
    assert torch.equal(after, wanted)
    untouched = "stage2.block1.mixer.branch.attention.bias"
    assert torch.equal(native.model.state_dict()[untouched], larger.model.state_dict()[untouched])
    assert larger.model(torch.zeros(1, 3, 384, 384)).shape == (1, 1000)


def test_resizing_keeps_a_constant_and_the_size() -> None:
    assert torch.allclose(resize_bias_table(torch.full((3, 49), 2.5), 4), torch.full((3, 16), 2.5))
    table = torch.randn(2, 49)
    assert torch.allclose(resize_bias_table(table, 7), table)


def test_a_size_with_the_same_windows_changes_nothing(m0: State, written: Written) -> None:
    loaded = load_checkpoint(written(m0, "weights.pth"), "m0", image_size=square(256))
    assert loaded.model.spec.image_size == square(256)
    assert loaded.notes == ()


@pytest.mark.parametrize("text", ["64", "208", "224", "240", "256", "320", "384", "448", "512", "128x256", "640x480"])
def test_own_files_remember_their_size(text: str, tmp_path: Path) -> None:
    size = ImageSize.parse(text)
    save_checkpoint(build(model_spec("m0", size)), tmp_path / "own.safetensors")
    loaded = load_checkpoint(tmp_path / "own.safetensors", "m0")
    assert loaded.model.spec.image_size == size
    assert loaded.notes == ()


@pytest.mark.parametrize(("declared", "said"), [("512", "not true"), ("-1", "none"), ("", "none"), ("x" * 100, "none")])
def test_metadata_against_the_windows_is_refused(declared: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(build(model_spec("m0")).state_dict(), path, metadata={"image_size": declared})
    with pytest.raises(BadCheckpoint, match=said) as caught:
        load_checkpoint(path, "m0")
    assert declared[:20] in str(caught.value.got)


# --- What is accepted, and said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "student.", "generator.net.", "module._orig_mod.model_ema.module."]
)
def test_prefixes_of_training_are_stripped(prefix: str, m0: State, written: Written) -> None:
    plain = load_checkpoint(written(m0, "plain.pth"), "m0").model.state_dict()
    loaded = load_checkpoint(written({prefix + name: t for name, t in m0.items()}, "wrapped.pth"), "m0", square(224))
    assert f"'{prefix}' stripped from {len(m0)}" in loaded.notes[0]
    assert all(torch.equal(tensor, plain[name]) for name, tensor in loaded.model.state_dict().items())


def test_a_training_checkpoint(m0: State, tmp_path: Path) -> None:
    average = {"module." + name: tensor + 1 for name, tensor in m0.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    extra = {"optimizer": optimizer, "epoch": 3, "args": argparse.Namespace(lr=1e-3, data="/data")}
    torch.save({"model_ema": average, "model": m0, **extra}, tmp_path / "checkpoint.pth")
    loaded = load_checkpoint(tmp_path / "checkpoint.pth", "m0", square(224))
    assert "'model'" in loaded.source
    assert "not used: 'model_ema.module' (--ema takes the running average)" in loaded.notes[0]
    assert torch.equal(loaded.model.state_dict()["stem.conv1.conv.weight"], m0[STEM])
    averaged = load_checkpoint(tmp_path / "checkpoint.pth", "m0", square(224), reading=Reading(ema=True))
    assert averaged.average
    assert torch.equal(averaged.model.state_dict()["stem.conv1.conv.weight"], m0[STEM] + 1)


@pytest.mark.parametrize("entry", ["state_dict", "model_ema", "ema", "weights", None])
def test_other_places_of_the_state_dict(entry: str | None, m0: State, tmp_path: Path) -> None:
    torch.save({entry: m0} if entry else m0, tmp_path / "weights.pth")
    assert ("under" in load_checkpoint(tmp_path / "weights.pth", "m0", square(224)).source) == bool(entry)


def test_of_two_copies_side_by_side_the_average_is_left(m0: State, written: Written) -> None:
    both = {"model_ema.module." + name: tensor + 1 for name, tensor in m0.items()}
    both |= {"model." + name: tensor for name, tensor in m0.items()}
    loaded = load_checkpoint(written(both, "both.pth"), "m0", square(224))
    assert torch.equal(loaded.model.state_dict()["stem.conv1.conv.weight"], m0[STEM])
    assert "taken from 'model.model'; not used: 'model.model_ema.module'" in loaded.notes[1]


def test_weights_without_their_trailing_dimensions(m0: State, written: Written) -> None:
    flat = {n: t.flatten(1) if t.shape[2:] == (1, 1) and ".se." in n else t for n, t in m0.items()}
    loaded = load_checkpoint(written(flat, "flat.pth"), "m0")
    gate = loaded.model.state_dict()["stage2.downsample.merge.gate.reduce.weight"]
    assert torch.equal(gate, m0["blocks2.1.se.fc1.weight"])
    assert "4 tensor(s) came without" in loaded.notes[-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [None, square(384)])
def test_other_float_types_are_cast_and_noted(
    dtype: torch.dtype, size: ImageSize | None, m0: State, written: Written
) -> None:
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in m0.items()}
    loaded = load_checkpoint(written(cast, "cast.pth"), "m0", image_size=size)
    assert f"{str(dtype).removeprefix('torch.')} tensors cast to float32" in loaded.notes[-1]
    assert torch.equal(loaded.model.state_dict()["stem.conv1.conv.weight"], m0[STEM].to(dtype).float())


def test_step_counters_may_be_absent(m0: State, written: Written) -> None:
    bare = {name: t for name, t in m0.items() if "num_batches" not in name and "bias_idxs" not in name}
    assert load_checkpoint(written(bare, "bare.pth"), "m0", square(224)).notes == ()


def test_the_head_says_how_many_classes(m0: State, written: Written) -> None:
    m0["head.l.weight"], m0["head.l.bias"] = m0["head.l.weight"][:37].clone(), m0["head.l.bias"][:37].clone()
    path = written(m0, "37.pth")
    assert load_checkpoint(path, "m0", square(224)).model.spec.classes == 37
    assert load_checkpoint(path, "m0", square(224), classes=37).model.spec.classes == 37
    with pytest.raises(BadCheckpoint, match="another number of classes") as caught:
        load_checkpoint(path, "m0", classes=1000)
    assert (caught.value.expected, caught.value.got) == ("1000", "37")


# --- What is refused ---------------------------------------------------------------------------------------


def refused(path: Path, model: str = "m0") -> BadCheckpoint:
    with pytest.raises(BadCheckpoint) as caught:
        load_checkpoint(path, model)
    assert caught.value.next_step
    return caught.value


def test_no_file(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "nowhere.pth").what


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "last.pth").symlink_to("epoch9.pth")
    assert refused(tmp_path / "last.pth").got == "a link to 'epoch9.pth', which is not there"


def test_arrays_of_numpy(m0: State, tmp_path: Path) -> None:
    torch.save({name: tensor.numpy() for name, tensor in m0.items()}, tmp_path / "arrays.pth")
    error = refused(tmp_path / "arrays.pth")
    assert error.got == "NumPy arrays in the place of tensors"
    assert "torch.from_numpy(array)" in str(error.next_step)


def test_a_directory(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "holds no weights" in error.what
    assert "model.safetensors" in str(error.expected)


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Not Found</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (bytes(range(1, 100)), "start with"),
        (gzip.compress(b"weights", mtime=0), "a gzip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file"),
        (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        (b"run/".ljust(257, b"\0") + b"ustar", "a tar archive"),
        (b"Entry not found", "text: 'Entry not found'"),
        (b'{"error": "Repository not found"}', 'text: \'{"error": '),
        (bytes(1000), "zeros"),
        (pickle.dumps({"head.l.weight": torch.ones(3)}), "a pickle that torch.save did not write"),
        (zipped({"run/best.pth": b""}), "a ZIP archive of run/best.pth"),
        (zipped({"head.npy": b"", "stem.npy": b""}), "NumPy arrays"),
        (zipped({"m/archive_format": b"pt2", "m/models/model.json": b"{}"}), "a program of torch.export"),
    ],
)
def test_not_weights_at_all(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    error = refused(tmp_path / "weights.pth")
    assert error.got is not None
    assert said in error.got


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (gzip.compress(b"weights", mtime=0), "unpack it"),
        (b"run/".ljust(257, b"\0") + b"ustar", "unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "name the PyTorch checkpoint"),
        (b"<!DOCTYPE html><html>Not Found</html>", "download it again"),
        (b"No such archive in TensorFlow Hub", "download it again"),
    ],
)
def test_what_to_do_about_it(content: bytes, step: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    error = refused(tmp_path / "weights.pth")
    assert error.next_step is not None
    assert step in error.next_step


ONNX = b"\x08\x08\x12\x07pytorch\x1a\x062.14.1:\xaa\x9c\x9f\x04" + bytes(600)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("model.onnx", ONNX, "an ONNX model"),
        ("weights.pth", ONNX, "an ONNX model"),
        ("weights.pth", b"\x08\x0a:\xaa\x9c\x9f\x04" + bytes(600), "an ONNX model"),
        ("model.onnx.data", bytes(600), "an ONNX model"),
        ("model.mlmodel", b"\x08\x04\x12\x20" + bytes(600), "a Core ML model"),
        ("model.xml", b'<?xml version="1.0"?>\n<net name="Model0" version="11">', "an OpenVINO IR"),
        ("model.engine", b"ftrt" + bytes(600), "a TensorRT engine"),
        ("model.plan", b"\x01" * 600, "a TensorRT engine"),
        ("weights.pth", b"\x1c\0\0\0TFL3" + bytes(600), "a TensorFlow Lite model"),
        ("model.pte", b"\x1c\0\0\0ET12" + bytes(600), "an ExecuTorch program"),
    ],
)
def test_what_was_exported_is_no_checkpoint(name: str, content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    error = refused(tmp_path / name)
    assert (error.got, str(error.next_step)[:24]) == (what, "give the checkpoint that")


def test_folders_that_hold_an_export(tmp_path: Path) -> None:
    (tmp_path / "a.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.onnx").write_bytes(ONNX)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "model.xml").write_text("<net>")
    (tmp_path / "c" / "model.bin").write_bytes(b"\x3f" * 600)
    (tmp_path / "d.mlmodelc").mkdir()
    (tmp_path / "d.mlmodelc" / "coremldata.bin").write_bytes(b"\x3f" * 600)
    found = {each.name: refused(each) for each in tmp_path.iterdir()}
    assert {name: error.got for name, error in found.items()} == {
        "a.mlpackage": "a Core ML package",
        "b": "an ONNX model",
        "c": "an OpenVINO IR",
        "d.mlmodelc": "a compiled Core ML model",
    }
    assert all("that it was exported from" in str(error.next_step) for error in found.values())


@pytest.mark.parametrize("name", ["weights.onnx.pth", "model.plan"])
def test_a_checkpoint_is_one_whatever_its_name(name: str, m0: State, written: Written) -> None:
    assert load_checkpoint(written(m0, name), "m0").layout is Layout.OFFICIAL


@pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
def test_truncated(name: str, share: float, m0: State, written: Written) -> None:
    path = written(m0, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged or incomplete" in refused(path).what


def test_truncated_in_the_old_format(m0: State, tmp_path: Path) -> None:
    torch.save({"model": m0}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "old.pth", "m0").layout is Layout.OFFICIAL
    content = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old.pth").write_bytes(content[: len(content) // 2])
    assert "damaged or incomplete" in refused(tmp_path / "old.pth").what


class _Command:
    """What an attacker puts into a pickle."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(zipped: bool, m0: State, tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "ran"
    payload = {"model": m0, "extra": _Command(f"touch {trace}")}
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    error = refused(path)
    assert "would run code" in error.what
    assert error.got == f"{os.system.__module__}.system"
    assert error.next_step is not None
    assert "torch.save(torch.load('weights.pth', weights_only=False)['model'], 'weights.pth')" in error.next_step
    assert not trace.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(build(model_spec("m0")), tmp_path / "module.pth")
    error = refused(tmp_path / "module.pth")
    assert "whole module" in error.what
    assert error.got == "an object of the class efficientvit.model.EfficientViT"
    assert "torch.load('module.pth', weights_only=False).state_dict()" in str(error.next_step)


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pth"))
    error = refused(tmp_path / "script.pth")
    assert error.got == "a TorchScript program"
    assert "torch.jit.load('script.pth').state_dict()" in str(error.next_step)


@pytest.mark.parametrize("payload", [{"epoch": 3}, {"model": {}}, [1, 2], torch.zeros(3)])
def test_no_state_dict(payload: object, tmp_path: Path) -> None:
    torch.save(payload, tmp_path / "weights.pth")
    assert "holds no state dict" in refused(tmp_path / "weights.pth").what


@pytest.mark.parametrize(("name", "said"), [("mobilenetv3_small_050", "another model"), ("efficientvit_b0", "MIT's")])
def test_another_architecture(name: str, said: str, written: Written) -> None:
    state = timm.create_model(name).state_dict()
    error = refused(written(state, "other.safetensors"))
    assert said in error.what
    assert next(iter(sorted(state))) in str(error.got)
    assert "more" in str(error.got)


@pytest.mark.parametrize("model", ["m1", "m2", "m3", "m4", "m5"])
def test_another_member_is_named(model: str, golden_state: GoldenState, written: Written) -> None:
    error = refused(written(golden_state("timm", model), "model.safetensors"), "m0")
    assert f"but of EfficientViT-{model.upper()}" in error.what
    assert error.next_step == f"load them as '{model}'"
    assert "dims 64/128/192" in str(error.expected)


def test_a_model_outside_the_family(m0: State, written: Written) -> None:
    for name in list(m0):
        if ".dws.0.c.weight" in name:  # as in the authors' detection backbone
            m0[name] = torch.zeros(16, 1, 7, 7)
    assert "outside M0-M5" in refused(written(m0, "weights.pth")).what


def test_a_backbone_has_no_head(m0: State, written: Written) -> None:
    bare = {name: tensor for name, tensor in m0.items() if not name.startswith("head.")}
    error = refused(written(bare, "backbone.pth"))
    assert "no classification head" in error.what
    assert "--head features" in str(error.next_step)


@pytest.mark.parametrize("name", [STEM, "blocks3.4.mixer.m.attn.attention_biases", "head.bn.running_var"])
def test_a_missing_tensor(name: str, m0: State, written: Written) -> None:
    del m0[name]
    assert "lacks 1 tensor(s)" in refused(written(m0, "weights.pth")).what


def test_many_missing_tensors_are_counted(m0: State, written: Written) -> None:
    bare = {name: tensor for name, tensor in m0.items() if not name.startswith("patch_embed")}
    error = refused(written(bare, "weights.pth"))
    assert "lacks 20 tensor(s)" in error.what
    assert "and 15 more" in str(error.got)


@pytest.mark.parametrize("name", ["head_dist.l.weight", "criterion.weight", "patch_embed.8.c.weight"])
def test_an_extra_tensor(name: str, m0: State, written: Written) -> None:
    error = refused(written({**m0, name: torch.zeros(3)}, "weights.pth"))
    assert "1 tensor(s) too many" in error.what
    assert error.got is not None


def test_one_tensor_under_two_layouts(m0: State, written: Written) -> None:
    m0["patch_embed.conv1.conv.weight"] = m0[STEM]
    assert "twice" in refused(written(m0, "weights.pth")).what


@pytest.mark.parametrize(("name", "shape"), [(STEM, (8, 3, 5, 5)), ("head.l.bias", (10,)), ("head.bn.weight", ())])
def test_a_misshapen_tensor(name: str, shape: tuple[int, ...], m0: State, written: Written) -> None:
    error = refused(written({**m0, name: torch.zeros(shape)}, "weights.pth"))
    assert "wrong shape" in error.what
    assert str(shape) in str(error.got)


@pytest.mark.parametrize(
    ("stage", "entries", "said"),
    [(1, 50, "impossible shape"), (2, 36, "do not agree"), (1, 81, "fit no input size")],
)
def test_misshapen_bias_tables(stage: int, entries: int, said: str, m0: State, written: Written) -> None:
    name = next(n for n in m0 if n.startswith(f"blocks{stage}.") and n.endswith("attention_biases"))
    assert said in refused(written({**m0, name: torch.zeros(4, entries)}, "weights.pth")).what


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none(value: float, m0: State, written: Written) -> None:
    m0[STEM][0, 0, 0, :2] = value
    error = refused(written(m0, "weights.pth"))
    assert "NaN or Inf" in error.what
    assert error.got == "stem.conv1.conv.weight (2 of 216)"


def test_a_double_that_no_float_holds(m0: State, written: Written) -> None:
    m0[STEM] = m0[STEM].double()
    m0[STEM][0] = 1e300
    assert "NaN or Inf" in refused(written(m0, "weights.pth")).what


def test_a_negative_variance(m0: State, written: Written) -> None:
    m0["head.bn.running_var"][7] = -1e-3
    error = refused(written(m0, "weights.pth"))
    assert "negative variance" in error.what
    assert error.got == "head.norm.running_var (1 of 192)"


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.bool])
def test_a_tensor_of_no_float_type(dtype: torch.dtype, m0: State, written: Written) -> None:
    m0[STEM] = m0[STEM].to(dtype)
    assert "not dense floating-point" in refused(written(m0, "weights.pth")).what


def test_tensors_without_values(m0: State, tmp_path: Path) -> None:
    """As sharded training leaves them in the file of a process that holds nothing."""
    torch.save({name: tensor.to("meta") for name, tensor in m0.items()}, tmp_path / "weights.pth")
    with pytest.raises(BadCheckpoint, match="without values, on PyTorch's device `meta`"):
        load_checkpoint(tmp_path / "weights.pth", "m0", square(224))


def test_a_sparse_tensor_is_said_to_be_one(m0: State, tmp_path: Path) -> None:
    torch.save({**m0, "head.l.weight": m0["head.l.weight"].to_sparse()}, tmp_path / "weights.pth")
    with pytest.raises(BadCheckpoint, match=r"torch\.sparse_coo"):
        load_checkpoint(tmp_path / "weights.pth", "m0", square(224))


def test_damage_never_escapes_as_another_error(m0: State, written: Written) -> None:
    rng = np.random.default_rng(0)
    small = {name: tensor for name, tensor in m0.items() if name.startswith("patch_embed")}
    for name in ("weights.pth", "model.safetensors"):
        path = written(small, name)
        content = path.read_bytes()
        for _ in range(100):
            spoiled = bytearray(content)
            for at in rng.integers(0, len(content), 20):
                spoiled[at] = rng.integers(256)
            path.write_bytes(spoiled)
            refused(path)  # at the least it is another model


def test_bad_arguments_are_told_first(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        load_checkpoint(tmp_path / "none.pth", "b0")
    with pytest.raises(BadOption):
        load_checkpoint(tmp_path / "none.pth", "m0", image_size=square(225))


# --- Saving ------------------------------------------------------------------------------------------------


def _saved(model: EfficientViT, path: Path, **metadata: str) -> bytes:
    save_checkpoint(model, path, **metadata)
    return path.read_bytes()


def test_saving_and_loading_is_the_identity(m0: State, written: Written, tmp_path: Path) -> None:
    model = load_checkpoint(written(m0, "weights.pth"), "m0", image_size=square(384)).model
    path = tmp_path / "own.safetensors"
    first, second = (_saved(model, path, source="official", epoch="7") for _ in range(2))
    assert first == second  # equal weights, equal digest
    loaded = load_checkpoint(path, "m0")
    assert (loaded.layout, loaded.model.spec) == (Layout.OWN, model.spec)
    wanted = model.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.model.state_dict().items())
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_saving_into_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadOutput):
        save_checkpoint(build(model_spec("m0")), tmp_path / "no" / "folder" / "own.safetensors")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.safetensors"
    before = _saved(build(model_spec("m0")), path)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BadOutput, match="cannot write"):
        save_checkpoint(build(model_spec("m0")), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
