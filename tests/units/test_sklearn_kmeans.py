"""Published codebooks: read as scikit-learn and joblib write them, and never executed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zlib
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans

from speechscale.errors import UserError
from speechscale.units.hubert import ENCODER_PRESETS
from speechscale.units.sklearn_kmeans import read_sklearn_kmeans

FRAMES = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
ENCODER = {"name": "hubert", "layer": 11}


def fitted(kind=MiniBatchKMeans, **settings):
    return kind(6, n_init=1, **settings).fit(FRAMES)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3)])
def test_joblib_files_are_read(tmp_path: Path, protocol: int, compress) -> None:
    for model in (
        fitted(random_state=np.random.RandomState(0)),
        fitted(KMeans, random_state=0),
        MiniBatchKMeans(6, random_state=0).partial_fit(FRAMES),
        fitted(KMeans, init=FRAMES[:6].copy()),
    ):
        path = tmp_path / "km.bin"
        joblib.dump(model, path, compress=compress, protocol=protocol)
        book = read_sklearn_kmeans(path, ENCODER, hashlib.sha256(path.read_bytes()).hexdigest().upper())
        assert np.array_equal(book.centroids, model.cluster_centers_) and book.centroids.dtype == np.float32
        assert np.array_equal(book.assign(FRAMES), model.predict(FRAMES))
        assert book.encoder == ENCODER


def test_plain_pickle_and_float64_in_fortran_order_are_read(tmp_path: Path) -> None:
    model = fitted()
    model.cluster_centers_ = np.asfortranarray(model.cluster_centers_, dtype=np.float64)
    model.init = model.cluster_centers_  # the same array twice
    for protocol in (2, 4):
        (tmp_path / "km.pkl").write_bytes(pickle.dumps(model, protocol))
        joblib.dump(model, tmp_path / "km.bin", protocol=protocol)
        for name in ("km.pkl", "km.bin"):
            read = read_sklearn_kmeans(tmp_path / name, ENCODER).centroids
            assert np.allclose(read, model.cluster_centers_, atol=1e-6)


def test_files_of_old_versions_are_read(tmp_path: Path) -> None:
    """scikit-learn before 0.22 and numpy before 2, as they named themselves."""
    model = fitted()
    state = {
        "n_clusters": 6,
        "cluster_centers_": model.cluster_centers_,
        "counts_": np.ones(6),
        "random_state_": None,
    }
    model.__dict__ = state
    data = pickle.dumps(model, 2)
    assert b"numpy._core.multiarray" in data
    data = data.replace(b"csklearn.cluster._kmeans\n", b"csklearn.cluster.k_means_\n")
    data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "old.bin").write_bytes(data)
    assert np.array_equal(
        read_sklearn_kmeans(tmp_path / "old.bin", ENCODER).centroids, model.cluster_centers_
    )


class Call:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def inside(payload):
    """A k-means with the payload in its state."""
    model = fitted()
    model.verbose = payload
    return model


@pytest.mark.parametrize("place", ["top", "state", "nested", "object array", "key"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("how", ["system", "eval", "getattr", "popen"])
def test_malicious_pickle_is_refused_and_not_executed(
    tmp_path: Path, place: str, protocol: int, how: str
) -> None:
    mark = tmp_path / "ran"
    payload = {
        "system": Call(os.system, f"touch {mark}"),
        "eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "getattr": Call(getattr, "text", "upper"),
        "popen": Call(os.popen, f"touch {mark}"),
    }[how]
    model = {
        "top": payload,
        "state": inside(payload),
        "nested": inside({"a": [(payload,)]}),
        "object array": inside(np.array([payload, None], dtype=object)),
        "key": inside({1: {"x": payload}, "y": [payload]}),
    }[place]
    path = tmp_path / "km.bin"
    joblib.dump(model, path, protocol=protocol)
    with pytest.raises(UserError, match="refused, nothing in it was executed: it holds") as refusal:
        read_sklearn_kmeans(path, ENCODER)
    assert str(path) in str(refusal.value)
    assert not mark.exists()
    joblib.dump(model, path, protocol=protocol, compress=3)
    with pytest.raises(UserError, match="refused"):
        read_sklearn_kmeans(path, ENCODER)
    assert not mark.exists()


def test_joblib_itself_executes_the_payload(tmp_path: Path) -> None:
    """So the payload of the test above is effective."""
    mark = tmp_path / "ran"
    joblib.dump(inside(Call(os.system, f"touch {mark}")), tmp_path / "km.bin")
    joblib.load(tmp_path / "km.bin")
    assert mark.exists()


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (b"cbuiltins\nexec\n(S'1'\ntR.", "the name builtins.exec"),
        (b"(S'ls'\nios\nsystem\n.", "an opcode that refers to objects outside"),
        (b"\x80\x02(cnumpy\nndarray\no.", "an opcode that refers to objects outside"),
        (b"\x80\x02\x82\x01.", "an opcode that refers to objects outside"),
        (b"Pid\n.", "an opcode that refers to objects outside"),
        (b"\x80\x05\x97.", "an opcode that refers to objects outside"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "an array of dtype 'O8'"),
        (b"]}b.", "a state for list"),
        (b"cnumpy\nndarray\n}b.", "a state for type"),
        (
            b"cnumpy.core.multiarray\nscalar.__globals__\n.",
            "the name numpy.core.multiarray.scalar.__globals__",
        ),
        (b"\x80\x04\x8c\x06joblib\x8c\x04load\x93.", "the name joblib.load"),
    ],
)
def test_unsafe_opcodes_and_names_are_refused(tmp_path: Path, program: bytes, found: str) -> None:
    (tmp_path / "km.bin").write_bytes(program)
    with pytest.raises(UserError, match=f"refused.*{found}"):
        read_sklearn_kmeans(tmp_path / "km.bin", ENCODER)


def test_hash_is_compared_before_the_file_is_interpreted(tmp_path: Path) -> None:
    joblib.dump(Call(os.system, "true"), tmp_path / "km.bin")
    with pytest.raises(UserError, match="was not opened: its SHA-256 is"):
        read_sklearn_kmeans(tmp_path / "km.bin", ENCODER, "0" * 64)


def test_published_file_is_refused_for_another_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "km.bin"
    joblib.dump(fitted(), path)
    known = replace(
        ENCODER_PRESETS["mhubert-25hz-l11"], kmeans_sha256=hashlib.sha256(path.read_bytes()).hexdigest()
    )
    monkeypatch.setitem(ENCODER_PRESETS, "mhubert-25hz-l11", known)
    read_sklearn_kmeans(path, {"name": "hubert", "layer": 11, "normalize": False})
    with pytest.raises(
        UserError, match=r"belongs to the encoder mhubert-25hz-l11.*layer: found 9, wanted 11"
    ):
        read_sklearn_kmeans(path, {"name": "hubert", "layer": 9, "normalize": False})


def test_files_that_are_not_a_k_means_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "km.bin"
    with pytest.raises(UserError, match="cannot be opened"):
        read_sklearn_kmeans(path, ENCODER)
    stream = io.BytesIO()
    joblib.dump(fitted(), stream)
    whole = stream.getvalue()
    broken = MiniBatchKMeans(6)
    holed = fitted()
    holed.cluster_centers_[0, 0] = np.nan
    contents = {
        "not a joblib file": [b"", b"RIFF....", whole[: len(whole) // 2], whole[:-1]],
        "cannot be decompressed": [b"\x78\x9cgarbage"],
        "the compressed data is incomplete": [zlib.compress(whole)[:-9]],
        "no fitted k-means": [pickle.dumps(broken), pickle.dumps({"cluster_centers_": 1}), pickle.dumps([1])],
        "not all finite": [pickle.dumps(holed)],
    }
    for why, files in contents.items():
        for content in files:
            path.write_bytes(content)
            with pytest.raises(UserError, match=why):
                read_sklearn_kmeans(path, ENCODER)


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechscale.units.sklearn_kmeans._MAX_BYTES", 2**20)
    (tmp_path / "km.bin").write_bytes(zlib.compress(bytes(2**24)))
    with pytest.raises(UserError, match="more than 1 MiB"):
        read_sklearn_kmeans(tmp_path / "km.bin", ENCODER)
