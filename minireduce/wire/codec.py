"""Dataclasses to protobuf and back, without a line of code per class.

Converters are compiled once for a pair of Python type and protobuf message, on first use, by walking the annotations
of the dataclass and the descriptor of the message side by side. They must agree field by field and by name: a field
that only one of them has is an error when the pair is compiled, so it cannot be lost in silence.

    int float bool bytes str    the scalar; str as `bytes` where it may hold lone surrogates (paths, text of user code)
    StrEnum, TaskId, AttemptId  string
    X | Y                       a message with one oneof; the alternative is found by the name of its message
    tuple[X, ...]               repeated; many that are alike as one (`together.py`)
    tuple[str, int]             a message; its fields by position
    X | None                    an `optional` field, or a message field that is not set

A type that is no dataclass is wrapped (`JobId` as the one field of `JobIdReply`), where a method's reply says so.

What comes in is checked as far as the types go: anything else raises RequestError, as it is the sender's mistake.
Whether the values make sense is for the machines to say.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from minireduce.core import messages, replica_messages, requests, spec, task_data, views
from minireduce.core.storage import requests as file_requests
from minireduce.core.storage import views as file_views
from minireduce.errors import RequestError
from minireduce.ids import AttemptId, TaskId, parse_attempt_id, parse_task_id
from minireduce.proto import files_pb2, messages_pb2, requests_pb2, spec_pb2, views_pb2
from minireduce.wire import file_questions, questions, together
from minireduce.wire.together import TOGETHER

MODULES = (
    (spec, spec_pb2),
    (messages, messages_pb2),
    (replica_messages, messages_pb2),
    (task_data, messages_pb2),
    (together, messages_pb2),
    (requests, requests_pb2),
    (questions, requests_pb2),
    (views, views_pb2),
    (file_requests, files_pb2),
    (file_questions, files_pb2),
    (file_views, files_pb2),
)
"""Where dataclasses and their like-named messages stand: a new dataclass needs its message only."""

T = TypeVar("T")
Convert = Callable[[Any], Any]
Fill = Callable[[Message, Any], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """Between values of one Python type and messages of one class."""

    message: type[Message]
    fill: Fill
    read: Convert

    def encode(self, value: object) -> bytes:
        """`value` as bytes. Raises RequestError if it does not fit its type."""
        message = self.message()
        try:
            self.fill(message, value)
            return message.SerializeToString()
        except (EncodeError, TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"{_shown(value)} does not fit {self.message.DESCRIPTOR.name}: {error}") from error

    def decode(self, data: bytes) -> Any:
        """The value that `encode` turned into `data`. Raises RequestError for anything else."""
        message = self.message()
        try:
            message.ParseFromString(data)
            return self.read(message)
        except (DecodeError, ValueError) as error:
            raise RequestError(f"this is no {self.message.DESCRIPTOR.name}: {error}") from error


def encode(value: Any) -> bytes:
    """A dataclass of `MODULES` as bytes. Raises RequestError if a field does not fit its type."""
    kind: Any = type(value)
    return codec_of(kind).encode(value)


def decode(kind: type[T], data: bytes) -> T:
    """The `kind` that `encode` turned into `data`. Raises RequestError for anything else."""
    bare: Any = kind
    value: T = codec_of(bare).decode(data)
    return value


@functools.cache
def codec_of(kind: Any, message: Any = None) -> Codec:
    """The codec of a dataclass, or of any type and the message that a method's description gives for it."""
    if message is None:
        message = _registered()[kind]
    fill, read = _compile(kind, message.DESCRIPTOR)
    return Codec(message, fill, read)


@functools.cache
def _registered() -> dict[Any, type[Message]]:
    return {
        kind: getattr(protos, name)
        for module, protos in MODULES
        for name, kind in vars(module).items()
        if dataclasses.is_dataclass(kind) and getattr(kind, "__module__", None) == module.__name__
        if kind is not together.Together
    }


def message_of(descriptor: Descriptor) -> Any:
    """The class of the messages that `descriptor` describes."""
    return GetMessageClass(descriptor)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _compile(kind: Any, descriptor: Descriptor) -> tuple[Fill, Convert]:
    """How to fill a message of `descriptor` from a `kind`, and how to read it."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _compile_dataclass(kind, descriptor)
    if get_origin(kind) in {Union, UnionType}:
        return _compile_union(get_args(kind), descriptor)
    if get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis:
        return _compile_row(get_args(kind), descriptor)
    if kind is NoneType and not descriptor.fields:
        return (lambda _message, _value: None), (lambda _message: None)
    if len(descriptor.fields) == 1:
        fill, read = _compile_field(kind, descriptor.fields[0])
        return fill, read
    raise TypeError(f"{descriptor.full_name} cannot hold {kind}")


def _compile_dataclass(kind: Any, descriptor: Descriptor) -> tuple[Fill, Convert]:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    if sorted(names) != sorted(descriptor.fields_by_name):
        differing = sorted(set(names).symmetric_difference(descriptor.fields_by_name))
        raise TypeError(f"{kind.__name__} and {descriptor.full_name} differ in {', '.join(differing)}")
    compiled = [(name, *_compile_field(hints[name], descriptor.fields_by_name[name])) for name in names]
    fills = tuple((name, fill) for name, fill, _ in compiled)
    reads = tuple(read for _, _, read in compiled)

    def fill(message: Message, value: Any) -> None:
        if type(value) is not kind:
            raise TypeError(f"{_shown(value)} is no {kind.__name__}")
        for name, fill_field in fills:
            fill_field(message, getattr(value, name))

    return fill, lambda message: kind(*[read(message) for read in reads])


def _compile_row(kinds: tuple[Any, ...], descriptor: Descriptor) -> tuple[Fill, Convert]:
    fields = sorted(descriptor.fields, key=lambda field: field.number)
    if len(fields) != len(kinds):
        raise TypeError(f"{descriptor.full_name} has {len(fields)} fields for {len(kinds)} values")
    compiled = [_compile_field(kind, field) for kind, field in zip(kinds, fields, strict=True)]
    fills = tuple(fill for fill, _ in compiled)
    reads = tuple(read for _, read in compiled)

    def fill(message: Message, values: tuple[Any, ...]) -> None:
        for fill_field, value in zip(fills, values, strict=True):
            fill_field(message, value)

    return fill, lambda message: tuple([read(message) for read in reads])


def _compile_union(kinds: tuple[Any, ...], descriptor: Descriptor) -> tuple[Fill, Convert]:
    if descriptor.name in TOGETHER:
        kinds = (*kinds, TOGETHER[descriptor.name].whole)
    (oneof,) = descriptor.oneofs
    field_of = {field.message_type.name: field for field in oneof.fields if field.message_type is not None}
    if sorted(field_of) != sorted(kind.__name__ for kind in kinds):
        raise TypeError(f"{descriptor.full_name} and the union of {kinds} have other alternatives")
    compiled = {kind: (field_of[kind.__name__].name, *_compile_field(kind, field_of[kind.__name__])) for kind in kinds}
    fills = {kind: fill for kind, (_, fill, _) in compiled.items()}
    reads = {name: read for name, _, read in compiled.values()}

    def fill(message: Message, value: Any) -> None:
        fill_alternative = fills.get(type(value))
        if fill_alternative is None:
            raise TypeError(f"{_shown(value)} is no alternative of {descriptor.name}")
        fill_alternative(message, value)

    def read(message: Any) -> Any:
        name = message.WhichOneof(oneof.name)
        if name is None:
            raise ValueError(f"{descriptor.name} holds none of its alternatives, or one of another version")
        return reads[name](message)

    return fill, read


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _compile_field(kind: Any, field: FieldDescriptor) -> tuple[Fill, Convert]:
    """How to set `field` of a message to a value of `kind`, and how to get it."""
    arguments = get_args(kind)
    if NoneType in arguments:
        (bare,) = [argument for argument in arguments if argument is not NoneType]
        return _compile_optional(bare, field)
    if _is_repeated(field):
        if get_origin(kind) is not tuple or arguments[-1] is not Ellipsis:
            raise TypeError(f"{field.full_name} is repeated, {kind} is not")
        return _compile_repeated(arguments[0], field)
    if field.message_type is not None:
        return _compile_nested(kind, field)
    name = field.name
    to_wire, from_wire = _scalar(kind, field)
    if from_wire is None:
        return (lambda message, value: setattr(message, name, value)), (lambda message: getattr(message, name))
    return (
        lambda message, value: setattr(message, name, to_wire(value)),
        lambda message: from_wire(getattr(message, name)),
    )


def _compile_nested(kind: Any, field: FieldDescriptor) -> tuple[Fill, Convert]:
    name = field.name
    fill_nested, read_nested = _compile(kind, field.message_type)

    def fill(message: Any, value: Any) -> None:
        nested = getattr(message, name)
        nested.SetInParent()  # one without fields is there too
        fill_nested(nested, value)

    def read(message: Any) -> Any:
        if not message.HasField(name):
            raise ValueError(f"{field.full_name} is missing")
        return read_nested(getattr(message, name))

    return fill, read


def _compile_repeated(kind: Any, field: FieldDescriptor) -> tuple[Fill, Convert]:
    name = field.name
    if field.message_type is None:
        to_wire, from_wire = _scalar(kind, field)
        if from_wire is None:
            return (
                lambda message, values: getattr(message, name).extend(values),
                lambda message: tuple(getattr(message, name)),
            )
        return (
            lambda message, values: getattr(message, name).extend([to_wire(value) for value in values]),
            lambda message: tuple([from_wire(value) for value in getattr(message, name)]),
        )
    fill_element, read_element = _compile(kind, field.message_type)
    folding = TOGETHER.get(field.message_type.name)

    def fill(message: Message, values: Any) -> None:
        add = getattr(message, name).add
        for value in values if folding is None or len(values) < 2 else folding.fold(values):
            fill_element(add(), value)

    if folding is None:
        return fill, lambda message: tuple([read_element(element) for element in getattr(message, name)])
    return fill, lambda message: tuple(folding.unfold([read_element(element) for element in getattr(message, name)]))


def _compile_optional(kind: Any, field: FieldDescriptor) -> tuple[Fill, Convert]:
    if not field.has_presence:
        raise TypeError(f"{field.full_name} must be `optional` to hold None")
    name = field.name
    fill_present, read_present = _compile_field(kind, field)

    def fill(message: Message, value: Any) -> None:
        if value is not None:
            fill_present(message, value)

    return fill, lambda message: read_present(message) if message.HasField(name) else None


def _is_repeated(field: Any) -> bool:
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)  # protobuf before 6


_PLAIN = {
    int: FieldDescriptor.TYPE_INT64,
    float: FieldDescriptor.TYPE_DOUBLE,
    bool: FieldDescriptor.TYPE_BOOL,
    bytes: FieldDescriptor.TYPE_BYTES,
    str: FieldDescriptor.TYPE_STRING,
}


def _scalar(kind: Any, field: FieldDescriptor) -> tuple[Convert, Convert | None]:
    """From Python and back; None in place of the second: as it is, both ways."""
    if kind in _PLAIN and field.type == _PLAIN[kind]:
        return _same, None
    if kind is str and field.type == FieldDescriptor.TYPE_BYTES:
        return _text_to_bytes, _text_from_bytes
    if field.type == FieldDescriptor.TYPE_STRING:
        if kind is TaskId:
            return str, parse_task_id
        if kind is AttemptId:
            return str, parse_attempt_id
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return _same, kind
    raise TypeError(f"{field.full_name} cannot hold {kind}")


def _same(value: Any) -> Any:
    return value


def _text_to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text_from_bytes(data: bytes) -> str:
    return _short_text(data) if len(data) <= _SHORT_TEXT_BYTES else data.decode("utf-8", "surrogatepass")


_SHORT_TEXT_BYTES = 64


@functools.lru_cache(maxsize=4096)
def _short_text(data: bytes) -> str:
    """The names of counters come with every task that ends: the same few, ever again."""
    return data.decode("utf-8", "surrogatepass")
