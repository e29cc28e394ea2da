"""Encoding of Python state as JSON and tensors, without pickle.

A tree of Python values is encoded as a *skeleton* for ``json`` and a dict of tensors for ``safetensors``. Values
without a JSON equivalent are encoded as an object with one of these keys:

==================================  =================================================================
``{"$f": "nan"}``                   a float that is not finite
``{"$i": "0x1f"}``                  an int of more than 64 bits
``{"$tuple": [...]}``               a tuple; ``$size`` is a ``torch.Size``
``{"$dict": [[key, value], ...]}``  a dict with keys other than str; also ``$ordered``, ``$counter``
``{"$t": name}``                    a tensor
``{"$np": [type, shape, name]}``    a numpy array, whose bytes are a tensor
``{"$np": [type, hex]}``            a numpy scalar
==================================  =================================================================

Decoding does not import modules.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from super_selfish.errors import CheckpointCorrupt

MAX_DEPTH = 32
"""Maximum nesting depth of containers."""

_SUPPORTED = (
    "None, bool, int, float, str, list, tuple, dict, OrderedDict, Counter, torch.Size, dense torch tensors, "
    "numpy arrays and numpy scalars"
)
_MAPPINGS: dict[type, str] = {dict: "$dict", OrderedDict: "$ordered", Counter: "$counter"}
_SEQUENCES: dict[type, str] = {tuple: "$tuple", torch.Size: "$size"}
_KEY_TYPES = (type(None), bool, int, float, str, np.generic)
_SHARED = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
_ARRAYS = [*_SHARED, "uint16", "uint32", "uint64", "complex64", "complex128"]
_TENSORS = [getattr(torch, name) for name in (*_SHARED, "bfloat16", "float8_e4m3fn", "float8_e5m2")]


def encode(tree: Any, name: str = "tree") -> tuple[Any, dict[str, Tensor]]:
    """Encode a tree.

    Subclasses of supported types raise an error, because they would be decoded as the base class. There are two
    exceptions: ``nn.Parameter`` is decoded as a tensor, and attributes of an ``OrderedDict`` (such as ``_metadata`` of
    a ``state_dict``) are dropped.

    Args:
        tree: Nested containers, at most ``MAX_DEPTH`` deep.
        name: Name of the tree in error messages.

    Returns:
        The skeleton, and copies of all tensors on the CPU, by name. Tensors with identical memory are stored once and
        decoded as one tensor.

    Raises:
        TypeError: If a value cannot be stored; the message names its path.

    Examples:
        >>> encode({"lr": 0.1, "betas": (0.9, float("inf"))})
        ({'lr': 0.1, 'betas': {'$tuple': [0.9, {'$f': 'inf'}]}}, {})
    """
    encoder = _Encoder(name)
    return encoder.value(tree, ()), encoder.tensors


def decode(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Decode a tree; the inverse of `encode`.

    Raises:
        CheckpointCorrupt: If the skeleton is damaged, or refers to a missing tensor.

    Examples:
        >>> decode({"$tuple": [1, {"$f": "-inf"}]}, {})
        (1, -inf)
    """
    return _Decoder(tensors).value(skeleton, 0)


class _Encoder:
    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self._seen: dict[tuple[Any, ...], str] = {}

    def value(self, value: Any, path: tuple[str, ...]) -> Any:
        kind = type(value)
        if len(path) > MAX_DEPTH:
            self._reject(path, f"is nested deeper than {MAX_DEPTH} levels")
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if value.bit_length() <= 64 else {"$i": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$f": repr(value)}
        if kind is list:
            return self._items(value, path)
        if kind in _SEQUENCES:
            return {_SEQUENCES[kind]: self._items(value, path)}
        if kind in _MAPPINGS:
            return self._mapping(value, path)
        return self._numbers(value, path)

    def _items(self, values: Any, path: tuple[str, ...]) -> list[Any]:
        return [self.value(value, (*path, str(index))) for index, value in enumerate(values)]

    def _mapping(self, mapping: Mapping[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
        if type(mapping) is dict and all(type(key) is str and not key.startswith("$") for key in mapping):
            return {key: self.value(value, (*path, key)) for key, value in mapping.items()}
        pairs = []
        for key, value in mapping.items():
            below = (*path, str(key))
            if not _is_key(key):
                self._reject(below, f"has a key of type {type(key).__qualname__}")
            pairs.append([self.value(key, below), self.value(value, below)])
        return {_MAPPINGS[type(mapping)]: pairs}

    def _numbers(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        if type(value) in {Tensor, nn.Parameter}:
            return {"$t": self._tensor(value, path)}
        if type(value) is np.ndarray and value.dtype.name in _ARRAYS:
            copied = np.array(value, dtype=_little_endian(value.dtype.name), order="C")
            name = self._store(torch.from_numpy(copied.reshape(-1).view(np.uint8)), path)
            return {"$np": [value.dtype.name, list(value.shape), name]}
        if isinstance(value, np.generic) and value.dtype.name in _ARRAYS:
            return {"$np": [value.dtype.name, value.astype(_little_endian(value.dtype.name)).tobytes().hex()]}
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        if isinstance(value, np.ndarray):
            kind += f" of {value.dtype}"
        return self._reject(path, f"is of type {kind}")

    def _tensor(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        if tensor.dtype not in _TENSORS or tensor.layout is not torch.strided or tensor.device.type == "meta":
            self._reject(path, f"is a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device}")
        same = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if same in self._seen:
            return self._seen[same]
        copied = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor.detach())
        self._seen[same] = self._store(copied, path)
        return self._seen[same]

    def _store(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        joined = ".".join(path).encode("utf-8", "backslashreplace").decode() or "value"
        name, count = joined, 1
        while name in self.tensors or name == "__metadata__":  # reserved by safetensors
            count += 1
            name = f"{joined}#{count}"
        self.tensors[name] = tensor
        return name

    def _reject(self, path: tuple[str, ...], problem: str) -> NoReturn:
        shown = path if len(path) <= 8 else (*path[:4], "...", *path[-2:])
        raise TypeError(
            f"`{'.'.join((self.name, *shown))}` {problem}, which cannot be stored. Supported types: {_SUPPORTED}."
        )


class _Decoder:
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def value(self, skeleton: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            _fail(f"it is nested deeper than {MAX_DEPTH} levels")
        if skeleton is None or isinstance(skeleton, (bool, int, float, str)):
            return skeleton
        if isinstance(skeleton, list):
            return self._items(skeleton, depth)
        if not isinstance(skeleton, dict) or not all(isinstance(key, str) for key in skeleton):
            _fail(f"{type(skeleton).__name__} is not a JSON type")
        tag = next((key for key in skeleton if key.startswith("$")), None)
        if tag is None:
            return {key: self.value(value, depth + 1) for key, value in skeleton.items()}
        if len(skeleton) != 1:
            _fail(f"the tag {tag[:32]!r} is not the only key")
        return self._tagged(tag, skeleton[tag], depth)

    def _tagged(self, tag: str, content: Any, depth: int) -> Any:
        for kind, known in _MAPPINGS.items():
            if tag == known:
                return kind(self._pairs(content, depth))
        match tag:
            case "$tuple":
                return tuple(self._items(content, depth))
            case "$size":
                items = self._items(content, depth)
                return torch.Size(items) if _is_shape(items) else _fail("a shape was expected")
            case "$f":
                return float(content) if content in ("nan", "inf", "-inf") else _fail("a float was expected")
            case "$i":
                valid = isinstance(content, str) and re.fullmatch("-?0x[0-9a-f]+", content)
                return int(content, 16) if valid else _fail("an int was expected")
            case "$t":
                return self._tensor(content)
            case "$np":
                return self._array(content)
        return _fail(f"the tag {tag[:32]!r} is unknown")

    def _items(self, content: Any, depth: int) -> list[Any]:
        if not isinstance(content, list):
            _fail("a list was expected")
        return [self.value(item, depth + 1) for item in content]

    def _pairs(self, content: Any, depth: int) -> dict[Any, Any]:
        if not isinstance(content, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in content):
            _fail("pairs were expected")
        pairs = [(self.value(key, depth + 1), self.value(value, depth + 1)) for key, value in content]
        if not all(_is_key(key) for key, _ in pairs) or len(dict(pairs)) != len(pairs):
            _fail("a key is duplicate or has an invalid type")
        return dict(pairs)

    def _tensor(self, name: Any) -> Tensor:
        if not isinstance(name, str) or name not in self.tensors:
            _fail(f"there is no tensor {str(name)[:80]!r}")
        return self.tensors[name]

    def _array(self, content: Any) -> Any:
        if not isinstance(content, list) or len(content) not in (2, 3) or content[0] not in _ARRAYS:
            _fail("an array was expected")
        dtype = _little_endian(content[0])
        if len(content) == 2:
            if not isinstance(content[1], str) or not re.fullmatch(f"[0-9a-f]{{{2 * dtype.itemsize}}}", content[1]):
                _fail("a number was expected")
            return np.frombuffer(bytes.fromhex(content[1]), dtype)[0]
        shape, content_bytes = content[1], self._tensor(content[2])
        if not isinstance(shape, list) or not _is_shape(shape):
            _fail("a shape was expected")
        if content_bytes.dtype is not torch.uint8 or content_bytes.shape != (math.prod(shape) * dtype.itemsize,):
            _fail("an array does not match its shape")
        try:
            return content_bytes.numpy().view(dtype).reshape(shape)
        except ValueError:  # an empty array with a dimension that exceeds the address space
            _fail("a shape was expected")


def _is_key(key: Any) -> bool:
    return all(map(_is_key, key)) if type(key) is tuple else isinstance(key, _KEY_TYPES)


def _is_shape(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _little_endian(name: str) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder("<")


def _fail(problem: str) -> NoReturn:
    raise CheckpointCorrupt(f"The skeleton of a checkpoint is damaged: {problem}.")
