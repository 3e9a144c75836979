"""Safe reading of published codebooks: a scikit-learn k-means in a joblib file, without executing anything in it.

A joblib file is a pickle, and a pickle is a program that can call anything it can import. This reader imports
nothing: each name that such a file legitimately contains is replaced by a stand-in of this module that only stores
its arguments, and any other name is an error. No class or function of another library is ever looked up.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from speechscale.errors import UserError
from speechscale.records.seal import differing_fields
from speechscale.units.codebook import Codebook
from speechscale.units.hubert import ENCODER_PRESETS

_MAX_BYTES = 2**30  # uncompressed; 20,000 clusters of 2,048 dimensions in float64 are a third of that
_DTYPES = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


def read_sklearn_kmeans(path: Path, encoder: Mapping[str, Any], sha256: str | None = None) -> Codebook:
    """The codebook in a joblib file of a scikit-learn KMeans or MiniBatchKMeans, plain or compressed by zlib or gzip.

    Args:
        path: the joblib file.
        encoder: identity of the encoder whose frames it was learned from, which the file does not say.
        sha256: expected hash of the file, compared before anything in it is interpreted; None accepts any.

    Raises:
        UserError: the file is missing, has another hash, is not a k-means, or holds anything but plain data.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); a joblib file of a scikit-learn k-means is wanted."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise UserError(
            f"{path}: is not the expected file, and was not opened: its SHA-256 is {found}, wanted {sha256}."
        )
    _check_layer(path, found, encoder)
    centroids = _centroids(path, _unpickle(path, _decompress(path, content)))
    return Codebook(centroids, np.zeros(centroids.shape[1], np.float32), 1.0, dict(encoder))


def _check_layer(path: Path, sha256: str, encoder: Mapping[str, Any]) -> None:
    """Check that the k-means of a preset, recognised by its hash, is used with the layer it was learned from."""
    for name, preset in ENCODER_PRESETS.items():
        wanted = {key: getattr(preset.encoder, key) for key in ("layer", "normalize")}
        differing = differing_fields({key: encoder.get(key) for key in wanted}, wanted)
        if sha256 == preset.kmeans_sha256 and differing:
            raise UserError(
                f"{path}: belongs to the encoder {name}, not to the one given; these differ: {'; '.join(differing)}."
            )


def _decompress(path: Path, content: bytes) -> bytes:
    if content[:1] == b"\x78" or content[:2] == b"\x1f\x8b":
        decompressor = zlib.decompressobj(_ZLIB_OR_GZIP)
        try:
            content = decompressor.decompress(content, _MAX_BYTES + 1)
        except zlib.error as error:
            raise UserError(f"{path}: cannot be decompressed ({error}); download it again.") from error
        if not decompressor.eof and len(content) <= _MAX_BYTES:
            raise UserError(f"{path}: the compressed data is incomplete; download it again.")
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path}: holds more than {_MAX_BYTES >> 20} MiB, which no codebook needs.")
    return content


def _unpickle(path: Path, content: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except _Refused as refusal:
        raise UserError(
            f"{path}: refused, nothing in it was executed: it holds {refusal}, and a k-means needs only arrays."
        ) from refusal
    except Exception as error:  # a broken pickle can raise anything, and nothing of it was executed
        raise UserError(
            f"{path}: not a joblib file of a scikit-learn k-means ({type(error).__name__}: {error})."
        ) from error


def _centroids(path: Path, model: Any) -> np.ndarray:
    state = model.state if isinstance(model, _Estimator) else None
    centroids = state.get("cluster_centers_") if isinstance(state, dict) else None
    if not isinstance(centroids, np.ndarray) or centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise UserError(
            f"{path}: holds no fitted k-means; wanted cluster_centers_, floats [clusters, dimension]."
        )
    if len(centroids) < 2 or not np.isfinite(centroids).all():
        raise UserError(f"{path}: its cluster_centers_ have fewer than two rows or are not all finite.")
    return np.ascontiguousarray(centroids, dtype=np.float32)


class _Refused(ValueError):
    """Content of a pickle that a codebook does not need."""


class _Inert:
    """A stand-in for an object in a pickle: stores its state and does nothing."""

    def __init__(self, *_arguments: Any) -> None:
        self.state: Any = None

    def build(self, state: Any, _stream: io.BytesIO) -> Any:
        """The object with this state, or its replacement."""
        self.state = state
        return self


class _Estimator(_Inert):
    pass


class _DType(_Inert):
    """A numpy dtype of plain numbers."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        if code not in _DTYPES:
            raise _Refused(f"an array of dtype {code!r}")
        self.dtype = np.dtype(code)

    def build(self, state: Any, _stream: io.BytesIO) -> _DType:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])
        return self


class _Array(_Inert):
    """An array in an ordinary pickle: `_reconstruct` creates it, and its state holds the bytes."""

    def build(self, state: Any, _stream: io.BytesIO) -> np.ndarray:
        _version, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")


class _JoblibArray(_Inert):
    """An array in a joblib file: its bytes follow the wrapper in the stream."""

    def build(self, state: Any, stream: io.BytesIO) -> np.ndarray:
        dtype, shape = state["dtype"], state["shape"]
        if state.get("numpy_array_alignment_bytes") is not None:
            stream.read(stream.read(1)[0])
        size = dtype.dtype.itemsize * int(np.prod(shape, dtype=object))
        if not 0 <= size <= _MAX_BYTES:
            raise _Refused(f"an array of shape {shape}")
        return _array(stream.read(size), dtype, shape, state["order"])


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise _Refused("an array without a dtype of numbers")
    if not isinstance(data, bytes):
        raise _Refused("an array of Python objects")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (), "C")[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    return _array(bytes(data), dtype, shape, order)


def _encode(text: str, encoding: str) -> bytes:
    """`bytes` in pickle protocols before 3."""
    if encoding != "latin1":
        raise _Refused(f"text to be encoded as {encoding!r}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _JoblibArray,
    ("numpy", "ndarray"): _Inert,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")  # before and since numpy 2
        for name, stand_in in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{
        (f"sklearn.cluster.{module}", name): _Estimator
        for module in ("_kmeans", "k_means_")  # since and before scikit-learn 0.22
        for name in ("KMeans", "MiniBatchKMeans")
    },
}


_UNSAFE_OPCODES = (
    pickle.INST,
    pickle.OBJ,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
    pickle.PERSID,
    pickle.BINPERSID,
    pickle.NEXT_BUFFER,
)


class _Unpickler(pickle._Unpickler):
    """The unpickler of the standard library in Python, without the opcodes that no codebook needs."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy.random."):
            return _Inert  # part of the random state of an estimator
        if (module, name) not in _STAND_INS:
            raise _Refused(f"the name {module}.{name}")
        return _STAND_INS[module, name]

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Inert):
            raise _Refused(f"a state for {type(self.stack[-1]).__name__}")
        before = self.stack[-1]
        self.stack[-1] = built = before.build(state, self._stream)
        for key in [key for key, stored in self.memo.items() if stored is before]:
            self.memo[key] = built

    def _refuse(self) -> NoReturn:
        raise _Refused("an opcode that refers to objects outside the file")

    stack: list[Any]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        **dict.fromkeys((code[0] for code in _UNSAFE_OPCODES), _refuse),
    }
