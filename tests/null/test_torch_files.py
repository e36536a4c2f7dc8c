"""PyTorch's files of weights: every kind of tensor they hold, and that nothing in a file is ever run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import (
    CONTAINERS,
    FLOATS,
    MAGIC,
    VALUES,
    Read,
    dictionary,
    empty,
    integer,
    legacy,
    name,
    pickled,
    reader,
    storage,
    tensor,
    text,
    zipped,
)

from forwardpass.dtypes import decode
from forwardpass.errors import FileError, UnsupportedError
from forwardpass.formats import load_graph, read_weights

both = pytest.mark.parametrize("kind", CONTAINERS)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path / "weights.pth")


@both
def test_tensors(kind: str, read: Read) -> None:
    value = dictionary({"a.weight": tensor(FLOATS, (3, 4)), "a.bias": tensor(FLOATS, (2,), offset=7)})
    found = read(CONTAINERS[kind](value, VALUES.tobytes()))
    assert list(found) == ["a.weight", "a.bias"]
    np.testing.assert_array_equal(found["a.weight"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(found["a.bias"], VALUES[7:9])
    for array in found.values():
        assert array.dtype == np.float32
        assert not array.flags.writeable


@both
def test_views(kind: str, read: Read) -> None:
    value = dictionary(
        {
            "transposed": tensor(FLOATS, (4, 3), (1, 4)),
            "every other": tensor(FLOATS, (5,), (2,), 1),
            "one for all": tensor(FLOATS, (2, 3), (0, 0), 4),
            "empty": tensor(FLOATS, (0, 7)),
            "scalar": tensor(FLOATS, (), (), 11),
        }
    )
    found = read(CONTAINERS[kind](value, VALUES.tobytes()))
    np.testing.assert_array_equal(found["transposed"], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(found["every other"], VALUES[1:11:2])
    np.testing.assert_array_equal(found["one for all"], np.full((2, 3), VALUES[4]))
    assert found["empty"].shape == (0, 7)
    assert found["scalar"] == VALUES[11]


STORAGES = {
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", STORAGES)
def test_types(kind: str, order: str, read: Read) -> None:
    values = np.array([0, 1, 1, 0, 1]).astype(STORAGES[kind])
    raw = values.astype(values.dtype.newbyteorder("<" if order == "little" else ">")).tobytes()
    (found,) = read(zipped(dictionary({"x": tensor(storage(kind, "k", 5), (5,))}), {"k": raw}, order)).values()
    assert found.dtype == values.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("order", ["little", "big"])
def test_bfloat16(order: str, read: Read) -> None:
    values = np.array([1.0, -2.5, 3.140625, 0.0], np.float32)
    codes = (values.view(np.uint32) >> 16).astype("<u2" if order == "little" else ">u2")
    value = dictionary({"x": tensor(storage("BFloat16Storage", "0", 4), (2, 2))})
    found = read(zipped(value, {"0": codes.tobytes()}, order))["x"]
    assert found.dtype.names == ("bfloat16",)
    np.testing.assert_array_equal(decode(found), values.reshape(2, 2))


def untyped(dtype: str, count: int, nbytes: int) -> bytes:
    """A tensor of `_rebuild_tensor_v3`, which newer types have."""
    stored = b"(" + text("storage") + name("torch.storage", "UntypedStorage") + text("0") + text("cpu")
    stored += integer(nbytes) + b"tQ"
    shape = b"(" + integer(count) + b"t" + b"(" + integer(1) + b"t"
    call = name("torch._utils", "_rebuild_tensor_v3")
    return call + b"(" + stored + integer(0) + shape + b"\x89" + empty() + name("torch", dtype) + b"tR"


@pytest.mark.parametrize(("dtype", "size"), [("uint16", 2), ("float8_e4m3fn", 1), ("float8_e5m2", 1), ("uint64", 8)])
def test_types_without_storages_of_their_own(dtype: str, size: int, read: Read) -> None:
    raw = bytes(range(3 * size))
    found = read(zipped(dictionary({"x": untyped(dtype, 3, 3 * size)}), {"0": raw}))["x"]
    assert found.tobytes() == raw
    assert (found.dtype.names or (found.dtype.name,))[0] == dtype


def test_parameters(read: Read) -> None:
    plain = tensor(FLOATS, (12,))
    parameter = name("torch._utils", "_rebuild_parameter") + b"(" + plain + b"\x88" + empty() + b"tR"
    assert read(zipped(dictionary({"w": parameter}), {"0": VALUES.tobytes()}))["w"].shape == (12,)


def test_state_of_the_dict_is_passed_over(read: Read) -> None:
    value = dictionary({"w": tensor(FLOATS, (12,))}) + b"}" + text("_metadata") + empty() + b"sb"
    assert list(read(zipped(value, {"0": VALUES.tobytes()}))) == ["w"]


def test_pairs_of_python_2(read: Read) -> None:
    pairs = b"](](" + b"U\x01w" + tensor(FLOATS, (12,)) + b"ee"
    value = name("collections", "OrderedDict") + b"(" + pairs + b"tR"
    assert list(read(zipped(value, {"0": VALUES.tobytes()}))) == ["w"]


def test_parts_of_legacy_storages(read: Read) -> None:
    view = b"(" + text("part") + integer(4) + integer(6) + b"t"
    value = dictionary({"w": tensor(storage("FloatStorage", "0", 12, view), (5,), offset=1)})
    np.testing.assert_array_equal(read(legacy(value, {"0": (12, VALUES.tobytes())}))["w"], VALUES[5:10])


WEIGHTS = dictionary({"w": tensor(FLOATS, (12,))})
EPOCH = text("epoch") + integer(3)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "weights_of_mine"])
@both
def test_weights_among_other_things(kind: str, key: str, read: Read) -> None:
    loss = text("loss") + tensor(FLOATS, (), ()) if key != "weights_of_mine" else b""
    value = b"}(" + EPOCH + loss + text(key) + WEIGHTS + text("note") + b"(" + text("x") + b"Nt" + b"u"
    assert list(read(CONTAINERS[kind](value, VALUES.tobytes()))) == ["w"]


def test_weights_two_levels_down(read: Read) -> None:
    value = dictionary({"model": dictionary({"state_dict": WEIGHTS})})
    assert list(read(zipped(value, {"0": VALUES.tobytes()}))) == ["w"]


def test_several_sets_of_weights(read: Read) -> None:
    value = dictionary({"generator": WEIGHTS, "critic": WEIGHTS})
    with pytest.raises(FileError, match=r"several sets.*'generator', 'critic'"):
        read(zipped(value, {"0": VALUES.tobytes()}))


# ---- nothing is run

CALLS = {
    "os.system": b"cos\nsystem\n(X\x05\0\0\0touchtR",
    "posix.system": b"cposix\nsystem\n(X\x05\0\0\0touchtR",
    "builtins.eval": b"cbuiltins\neval\n(X\x03\0\0\0000/0tR",
    "builtins.getattr": b"cbuiltins\ngetattr\n(NNtR",
    "__builtin__.exec": b"c__builtin__\nexec\n(X\x01\0\0\x001tR",
    "subprocess.Popen": b"X\x0a\0\0\0subprocessX\x05\0\0\0Popen\x93(X\x01\0\0\0atR",
    "numpy.core.multiarray._reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n.",
    "torch.load": b"ctorch\nload\n(X\x01\0\0\0atR",
    "torch._utils._rebuild_qtensor": b"ctorch._utils\n_rebuild_qtensor\n)R",
    "torch.nn.modules.linear.Linear": b"ctorch.nn.modules.linear\nLinear\n)\x81}b",
    "argparse.Namespace": b"cargparse\nNamespace\n)\x81}b",
}


@both
@pytest.mark.parametrize("call", CALLS)
def test_names_that_are_not_allowed(call: str, kind: str, read: Read) -> None:
    with pytest.raises(FileError) as error:
        read(CONTAINERS[kind](CALLS[call], VALUES.tobytes()))
    assert repr(call) in error.value.message
    assert "not allowed" in error.value.message


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("deep", [False, True])
def test_planted_code_is_not_run(protocol: int, deep: bool, read: Read, tmp_path: Path) -> None:
    target = tmp_path / "planted"
    planted = OrderedDict(w=Planted(target)) if deep else Planted(target)
    data = pickle.dumps(planted, protocol)
    for file in (data, pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + data):
        with pytest.raises(FileError):
            read(file)
    assert not target.exists()
    pickle.loads(data)  # it would have been
    assert target.is_dir()


BAD = {
    "an object's state": b"ctorch\nfloat32\n}b",
    "instances": b"(icollections\nOrderedDict\n",
    "a called dtype": b"ctorch\nfloat32\n)R",
    "a called number": b"K\x01)R",
    "sets": b"\x8f",
    "extensions": b"\x82\x01",
    "out-of-band buffers": b"\x97",
    "text of protocol 0": b"S'a'\n",
    "an empty stack": b"R",
    "an unknown memo": b"h\x07",
    "no mark": b"t",
    "values left over": b"NN",
    "a key that is a tuple": b"})N}s" + b"}()Ns",
    "a key that is a list": b"}]Ns",
    "a key that is large": b"}\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fNs",
    "a key without a value": b"}(Nu",
    "an item of a list": b"]NNs",
    "an element of a dict": b"}Na",
    "a long integer": b"\x8b\xff\xff\xff\x7f1",
    "a long text": b"X\xff\xff\xff\xffabc",
    "a very long text": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc",
    "text that is not UTF-8": b"X\x02\0\0\0\xff\xfe",
    "a name without an end": b"c" + b"a" * 10_000,
    "a name that is a number": b"K\x01K\x02\x93",
    "a protocol of the future": b"\x80\x09N",
    "a reference to a module": b"(X\x06\0\0\0moduleNNNtQ",
    "a reference to nothing": b"NQ",
    "a storage of a dtype": b"(" + text("storage") + name("torch", "float32") + text("0") + text("cpu") + b"K\x0ctQ",
    "a storage without a key": b"(" + text("storage") + name("torch", "FloatStorage") + b"NNK\x01tQ",
    "a negative storage": storage("FloatStorage", "0", -4),
    "a huge storage": dictionary({"w": tensor(storage("FloatStorage", "0", 1 << 60), (1 << 60,))}),
    "a missing storage": dictionary({"w": tensor(storage("FloatStorage", "9", 12), (12,))}),
    "another size of the storage": dictionary({"w": tensor(storage("FloatStorage", "0", 11), (11,))}),
    "a wider type": dictionary({"w": tensor(storage("DoubleStorage", "0", 12), (12,))}),
    "beyond the storage": dictionary({"w": tensor(FLOATS, (13,))}),
    "an offset beyond": dictionary({"w": tensor(FLOATS, (1,), (1,), 12)}),
    "a stride beyond": dictionary({"w": tensor(FLOATS, (3, 4), (5, 1))}),
    "a negative offset": dictionary({"w": tensor(FLOATS, (1,), (1,), -1)}),
    "a negative size": dictionary({"w": tensor(FLOATS, (-1,), (1,))}),
    "a negative stride": dictionary({"w": tensor(FLOATS, (3,), (-1,), 11)}),
    "too few strides": dictionary({"w": tensor(FLOATS, (3, 4), (1,))}),
    "too many axes": dictionary({"w": tensor(FLOATS, (1,) * 40)}),
    "an overflow": dictionary({"w": tensor(FLOATS, (1 << 40, 1 << 40), (0, 0))}),
    "much of little": dictionary({"w": tensor(FLOATS, (1 << 16, 1 << 16), (0, 0))}),
    "a part beyond": dictionary({"w": tensor(storage("FloatStorage", "0", 12, b"(NK\x08K\x05t"), (1,))}),
    "no tensors": dictionary({"w": integer(3)}),
    "a number": integer(3),
    "nothing": b"",
}


@both
@pytest.mark.parametrize("what", BAD)
def test_bad_pickles(what: str, kind: str, read: Read) -> None:
    with pytest.raises(FileError) as error:
        read(CONTAINERS[kind](BAD[what], VALUES.tobytes()))
    assert "weights.pth" in error.value.where


def test_a_storage_of_two_sizes(read: Read) -> None:
    other = tensor(storage("DoubleStorage", "0", 6), (6,))
    with pytest.raises(FileError):
        read(legacy(dictionary({"a": tensor(FLOATS, (12,)), "b": other}), {"0": (12, VALUES.tobytes())}))


def test_bools_are_bools(read: Read) -> None:
    with pytest.raises(FileError, match="bool"):
        read(zipped(dictionary({"x": tensor(storage("BoolStorage", "0", 2), (2,))}), {"0": b"\1\2"}))


def test_other_files(read: Read, tmp_path: Path) -> None:
    weights = {"0": VALUES.tobytes()}
    for data, said in [
        (zipped(WEIGHTS, weights, "middle"), "byte order"),
        (zipped(WEIGHTS, weights, more={"constants.pkl": pickled(b")"), "code/a.py": b"1"}), "TorchScript"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "before 0.1.10"),
        (b"hello, world", "not a PyTorch file"),
        (b"", "empty"),
        (pickled(integer(MAGIC)) + pickled(integer(7)), "not a PyTorch file"),
    ]:
        with pytest.raises(FileError, match=said):
            read(data)
    with pytest.raises(FileError, match="regular"):
        read_weights(tmp_path)
    with pytest.raises(FileError, match="cannot open"):
        read_weights(tmp_path / "missing.pt")


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_load_says_what_to_do_with_weights(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(zipped(WEIGHTS, {"0": VALUES.tobytes()}))
    with pytest.raises(UnsupportedError, match="set_weights"):
        load_graph(path)


def test_the_format_is_found_without_a_suffix(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for make in CONTAINERS.values():
        path.write_bytes(make(WEIGHTS, VALUES.tobytes()))
        assert list(read_weights(path)) == ["w"]
    np.savez(path.with_suffix(".npz"), a=VALUES)
    path.write_bytes(path.with_suffix(".npz").read_bytes())
    assert list(read_weights(path)) == ["a"]
    path.write_bytes(b"%PDF-1.4 of something")
    with pytest.raises(UnsupportedError, match="not a file of weights"):
        read_weights(path)
