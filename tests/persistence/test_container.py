"""One file of arrays and plain values: whole, as it was written, or refused."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scbatchnorm import ModelFileError
from scbatchnorm._data.plain import to_json_number, to_json_table
from scbatchnorm._persistence.container import read_container, write_container

CONTENT = {"text": "naïve \ud800 \"'\\", "number": 0.1, "list": [1, None, True], "nan": "nan"}
ARRAYS = {
    "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "f64": np.array([0.1, -0.0, np.nan]),
    "i64": np.array([-(2**62)]),
    "u8": np.arange(9, dtype=np.uint8),
    "empty": np.empty((0, 3), np.float32),
    "scalar": np.array(2.5, np.float32),
}


@pytest.fixture
def path(tmp_path):
    write_container(tmp_path / "file", "model", CONTENT, ARRAYS)
    return tmp_path / "file"


def same(found, content, arrays):
    assert found[0] == content
    assert found[1].keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[1][name].dtype == array.dtype
        np.testing.assert_array_equal(found[1][name], array)
        assert found[1][name].flags.writeable


def test_what_is_written_is_read(path):
    same(read_container(path, "model"), CONTENT, ARRAYS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8]), hnp.array_shapes(min_dims=0, min_side=0)
)


@settings(max_examples=40)
@given(
    content=st.dictionaries(st.text(), json_values, max_size=4), arrays=st.dictionaries(st.text(), arrays, max_size=3)
)
def test_any_content(tmp_path_factory, content, arrays):
    arrays.pop("__metadata__", None)  # which is safetensors' own name
    path = tmp_path_factory.mktemp("any") / "file"
    write_container(path, "model", content, arrays)
    same(read_container(path, "model"), content, arrays)


def test_the_same_content_gives_the_same_bytes(path, tmp_path):
    write_container(tmp_path / "again", "model", dict(CONTENT), dict(ARRAYS))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_others_can_read_the_arrays(path):
    """It is an ordinary safetensors file."""
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(path)["f32"], ARRAYS["f32"])


def test_other_layouts_and_byte_orders(tmp_path):
    given_ = {
        "fortran": np.asfortranarray(ARRAYS["f32"]),
        "part": np.arange(10.0)[::3],
        "big": np.arange(3, dtype=">f8"),
    }
    write_container(tmp_path / "file", "model", {}, given_)
    found = read_container(tmp_path / "file", "model")[1]
    for name, array in given_.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("value", [0.0, -1.5, 1e308, math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks(value):
    again = float(json.loads(json.dumps(to_json_number(value), allow_nan=False)))
    assert again == value or (math.isnan(again) and math.isnan(value))


def test_tables(tmp_path):
    frame = pd.DataFrame({"step": [1, 2], "loss": [0.1, np.nan], "batch": ["a", "b"]})
    again = pd.DataFrame(json.loads(json.dumps(to_json_table(frame), allow_nan=False))).astype(frame.dtypes)
    pd.testing.assert_frame_equal(again, frame)


# ---- what is refused


def test_another_kind(path):
    with pytest.raises(
        ModelFileError, match=r"file is no checkpoint that scbatchnorm wrote, or damaged: it is a model\."
    ):
        read_container(path, "checkpoint")


def test_every_bit_counts(path):
    """A changed bit is noticed, unless what is read is the same (such as 0.1 and 1e-1)."""
    data = path.read_bytes()
    unnoticed = 0
    for bit in range(0, 8 * len(data), 3):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            same(read_container(path, "model"), CONTENT, ARRAYS)
        except ModelFileError:
            continue
        unnoticed += 1
    assert unnoticed <= 3


def test_every_length_counts(path):
    data = path.read_bytes()
    for length in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match="or damaged"):
            read_container(path, "model")
    path.write_bytes(data + b"\0")
    with pytest.raises(ModelFileError, match="bytes of arrays instead of"):
        read_container(path, "model")


def with_header(change):
    """A file whose header was changed, as somebody would who knows the format."""

    def apply(data):
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        changed = change(header)
        text = (changed if isinstance(changed, str) else json.dumps(header)).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return apply


DAMAGES = {
    "empty": lambda data: b"",
    "text": lambda data: b"once upon a time",
    "pickle": lambda data: pickle.dumps({"weights": [1.0]}),
    "zip": lambda data: b"PK\x03\x04" + data,
    "huge header": lambda data: struct.pack("<Q", 2**63 - 1) + data[8:],
    "header as long as the file": lambda data: struct.pack("<Q", len(data)) + data[8:],
    "deep": with_header(lambda header: "[" * 200_000),
    "no dict": with_header(lambda header: "[1, 2]"),
    "long number": with_header(lambda header: "1" * 10_000),
    "no metadata": with_header(lambda header: header.pop("__metadata__")),
    "metadata of others": with_header(lambda header: header.update(__metadata__={"format": "pt"})),
    "metadata is no JSON": with_header(lambda header: header.update(__metadata__={"scbatchnorm": "{"})),
    "metadata is a list": with_header(lambda header: header.update(__metadata__={"scbatchnorm": "[]"})),
    "content is a list": with_header(
        lambda header: header.update(__metadata__={"scbatchnorm": '{"kind": "model", "sha256": "", "content": []}'})
    ),
    "other type": with_header(lambda header: header["f32"].update(dtype="F8_E4M3")),
    "type is no word": with_header(lambda header: header["f32"].update(dtype=["F32"])),
    "other shape": with_header(lambda header: header["f32"].update(shape=[3, 2])),
    "huge shape": with_header(lambda header: header["f32"].update(shape=[2**40, 2**40])),
    "huge empty shape": with_header(lambda header: header["empty"].update(shape=[0, 2**62])),
    "offsets beyond the end": with_header(lambda header: header["f32"].update(data_offsets=[0, 2**50])),
    "offsets backwards": with_header(lambda header: header["f32"].update(data_offsets=[24, 0])),
    "no offsets": with_header(lambda header: header["f32"].update(data_offsets=[])),
    "overlap": with_header(lambda header: header["f32"].update(data_offsets=header["u8"]["data_offsets"])),
    "renamed": with_header(lambda header: header.update(other=header.pop("f32"))),
    "one array less": with_header(lambda header: header.pop("empty")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_such_file(damage, path):
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ModelFileError, match=r"file is no model that scbatchnorm wrote, or damaged: \S"):
        read_container(path, "model")


def test_large_files_of_others_are_not_read(tmp_path):
    """What is no model is refused by its header: its size, here 1 TB of a hole, does not matter."""
    path = tmp_path / "large"
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(path, 10**12)
    except OSError:
        pytest.skip("this file system has no files with holes")
    with pytest.raises(ModelFileError, match="or damaged"):
        read_container(path, "model")


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelFileError, match="must be a regular file"):
            read_container(path, "model")


class Malicious:
    """What pickle would run."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_in_a_file_is_not_run(tmp_path):
    import torch

    mark = tmp_path / "was here"
    for name, write in (
        ("pickle", lambda path: path.write_bytes(pickle.dumps(Malicious(mark)))),
        ("torch", lambda path: torch.save(Malicious(mark), path)),
    ):
        write(tmp_path / name)
        with pytest.raises(ModelFileError):
            read_container(tmp_path / name, "model")
    assert not mark.exists()
    pickle.loads((tmp_path / "pickle").read_bytes())
    assert mark.exists(), "the file is malicious indeed"


def test_failed_writing_leaves_the_old_file(path):
    """No space, here by a limit on the size of files."""
    resource = pytest.importorskip("resource")
    import signal

    before, usual = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            write_container(path, "model", {}, {"large": np.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)
    same(read_container(path, "model"), CONTENT, ARRAYS)
    assert list(path.parent.iterdir()) == [path]
