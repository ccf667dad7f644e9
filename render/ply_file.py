"""The container of a PLY file: its header, its elements, and the arrays that they hold."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

_KINDS = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_Order = Literal["<", ">"]
_FORMATS: dict[str, _Order | None] = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
_END = b"end_header"


@dataclass(frozen=True)
class _Property:
    """kind: NumPy's name of the values; count_kind: that of the count in front of a list, or None for one value."""

    name: str
    kind: str
    count_kind: str | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """A property. values: of all rows, one after the other. sizes: how many of them each row has; None: one. kind:
    NumPy's name of the type that the header states."""

    values: np.ndarray
    sizes: np.ndarray | None
    kind: str


@dataclass(frozen=True)
class PlyFile:
    """elements: properties by the element's and their own name. comments: in the order of the header."""

    elements: dict[str, dict[str, Rows]] = field(default_factory=dict)
    comments: tuple[str, ...] = ()


def read_ply_file(data: bytes, most: int) -> PlyFile:
    """The content of a PLY file, text or binary. most: rows of one element. Raises ValueError where it is broken."""
    end = data.find(_END)
    if data[:3] != b"ply" or end < 0:
        raise ValueError("expected a header from ply to end_header")
    newline = b"\r\n" if data[3:5] == b"\r\n" else data[3:4]
    lines = [line.strip() for line in data[:end].decode("utf-8", "replace").splitlines()]
    start = data.find(newline, end) + len(newline) if newline in data[end:] else len(data)
    order, layout = _layout(lines, most)
    comments = tuple(line.split(None, 1)[1].strip() for line in lines if line.startswith("comment "))
    elements: dict[str, dict[str, Rows]] = {}
    if order is None:
        numbers = _numbers(data[start:])
        at = 0
        for name, count, properties in layout:
            elements[name], at = _text_rows(numbers, at, count, properties)
        return PlyFile(elements, comments)
    at = start
    for name, count, properties in layout:
        elements[name], at = _binary_rows(data, at, count, properties, order)
    return PlyFile(elements, comments)


def _layout(lines: list[str], most: int) -> tuple[_Order | None, list[tuple[str, int, list[_Property]]]]:
    """Byte order, None for text; name, rows and properties of every element."""
    order: _Order | None = None
    layout: list[tuple[str, int, list[_Property]]] = []
    for words in (line.split() for line in lines[1:]):
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            order = _FORMATS[words[1]]
        elif words[0] == "element":
            count = int(words[2])
            if not 0 <= count <= most:
                raise ValueError(f"expected at most {most:,} rows of {words[1][:40]}, got {count:,}")
            layout.append((words[1], count, []))
        elif words[0] == "property" and words[1] == "list":
            layout[-1][2].append(_Property(words[4], _KINDS[words[3]], _KINDS[words[2]]))
        elif words[0] == "property":
            layout[-1][2].append(_Property(words[2], _KINDS[words[1]]))
        else:
            raise ValueError(f"unknown line {' '.join(words)[:60]!r} in the header")
    return order, layout


def _numbers(text: bytes) -> np.ndarray:
    """Numbers with white space between them, without an object for each of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, np.float64, sep=" ") if text.strip() else np.zeros(0)
        except DeprecationWarning as error:  # what NumPy says where it stops
            raise ValueError("expected numbers behind the header") from error


def _text_rows(
    numbers: np.ndarray, at: int, count: int, properties: list[_Property]
) -> tuple[dict[str, Rows], int]:
    """The rows of an element, and where the next one begins."""
    sizes = _sizes_of_first(properties, lambda offset: _size(numbers, at + offset))
    width = sum(1 if size is None else 1 + size for size in sizes)
    table = numbers[at : at + count * width]
    if len(table) == count * width and count:
        table = table.reshape(count, width)
        columns = np.cumsum([0] + [1 if size is None else 1 + size for size in sizes])
        if all(size is None or (table[:, c] == size).all() for size, c in zip(sizes, columns, strict=False)):
            found: dict[str, Rows] = {}
            for each, size, column in zip(properties, sizes, columns, strict=False):
                if size is None:
                    found[each.name] = Rows(table[:, column], None, each.kind)
                else:
                    values = table[:, column + 1 : column + 1 + size].reshape(-1)
                    found[each.name] = Rows(values, np.full(count, size), each.kind)
            return found, at + count * width
    # Lists of several lengths: row by row.
    starts: list[list[int]] = [[] for _ in properties]
    lengths: list[list[int]] = [[] for _ in properties]
    for _ in range(count):
        for number, each in enumerate(properties):
            size = 1
            if each.count_kind is not None:
                size, at = _size(numbers, at), at + 1
            starts[number].append(at)
            lengths[number].append(size)
            at += size
            if at > len(numbers):
                raise ValueError("the file is cut off")
    found = {}
    for each, begin, size in zip(properties, starts, lengths, strict=True):
        rows = np.array(size, np.int64)
        values = numbers[_places(np.array(begin, np.int64), rows)]
        found[each.name] = Rows(values, None if each.count_kind is None else rows, each.kind)
    return found, at


def _binary_rows(
    data: bytes, at: int, count: int, properties: list[_Property], order: _Order
) -> tuple[dict[str, Rows], int]:
    def first_size(offset: int, kind: str) -> int:
        return int(np.frombuffer(data, np.dtype(kind).newbyteorder(order), 1, at + offset)[0])

    if not count:
        return {each.name: _no_rows(each) for each in properties}, at
    fields: list[tuple] = []
    offset = 0
    for number, each in enumerate(properties):
        if each.count_kind is not None:
            size = first_size(offset, each.count_kind)
            if size < 0 or size > len(data):
                raise ValueError(f"a list of {size} values")
            fields.append((f"n{number}", np.dtype(each.count_kind).newbyteorder(order)))
            fields.append((f"v{number}", np.dtype(each.kind).newbyteorder(order), (size,)))
            offset += np.dtype(each.count_kind).itemsize + size * np.dtype(each.kind).itemsize
        else:
            fields.append((f"v{number}", np.dtype(each.kind).newbyteorder(order)))
            offset += np.dtype(each.kind).itemsize
    dtype = np.dtype(fields)
    if dtype.itemsize and at + count * dtype.itemsize <= len(data):
        table = np.frombuffer(data, dtype, count, at)
        listed = [number for number, each in enumerate(properties) if each.count_kind is not None]
        if all((table[f"n{number}"] == table[f"n{number}"][0]).all() for number in listed):
            found: dict[str, Rows] = {}
            for number, each in enumerate(properties):
                values = table[f"v{number}"].astype(each.kind)
                sizes = None if each.count_kind is None else np.full(count, values.shape[1])
                found[each.name] = Rows(values.reshape(-1), sizes, each.kind)
            return found, at + count * dtype.itemsize
    elif all(each.count_kind is None for each in properties):
        raise ValueError("the file is cut off")
    return _binary_rows_of_any_length(data, at, count, properties, order)


def _binary_rows_of_any_length(
    data: bytes, at: int, count: int, properties: list[_Property], order: _Order
) -> tuple[dict[str, Rows], int]:
    """Row by row, the count of every list from the bytes."""
    readers = [
        None if each.count_kind is None else struct.Struct(order + np.dtype(each.count_kind).char)
        for each in properties
    ]
    widths = [np.dtype(each.kind).itemsize for each in properties]
    starts: list[list[int]] = [[] for _ in properties]
    lengths: list[list[int]] = [[] for _ in properties]
    for _ in range(count):
        for number, (reader, width) in enumerate(zip(readers, widths, strict=True)):
            size = 1
            if reader is not None:
                if at + reader.size > len(data):
                    raise ValueError("the file is cut off")
                size = int(reader.unpack_from(data, at)[0])
                at += reader.size
            if size < 0 or at + size * width > len(data):
                raise ValueError("the file is cut off")
            starts[number].append(at)
            lengths[number].append(size)
            at += size * width
    raw = np.frombuffer(data, np.uint8)
    found: dict[str, Rows] = {}
    for each, width, begin, size in zip(properties, widths, starts, lengths, strict=True):
        rows = np.array(size, np.int64)
        octets = raw[_places(np.array(begin, np.int64), rows * width)]
        values = octets.view(np.dtype(each.kind).newbyteorder(order)).astype(each.kind)
        found[each.name] = Rows(values, None if each.count_kind is None else rows, each.kind)
    return found, at


def _no_rows(each: _Property) -> Rows:
    return Rows(np.zeros(0, each.kind), None if each.count_kind is None else np.zeros(0, np.int64), each.kind)


def _sizes_of_first(properties: list[_Property], size_at) -> list[int | None]:
    """Lengths of the lists of the first row, None for single values."""
    sizes: list[int | None] = []
    offset = 0
    for each in properties:
        size = None if each.count_kind is None else size_at(offset)
        sizes.append(size)
        offset += 1 if size is None else 1 + size
    return sizes


def _size(numbers: np.ndarray, at: int) -> int:
    """The length of a list in text; none behind the end."""
    if at >= len(numbers):
        return 0
    value = numbers[at]
    if not 0 <= value <= len(numbers) or value != int(value):
        raise ValueError(f"a list of {value:g} values")
    return int(value)


def _places(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """begins[0], … begins[0] + sizes[0] - 1, begins[1], …"""
    step = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(begins, sizes) + step
