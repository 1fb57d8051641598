"""Protocol Buffers messages made of a table, without a generated module.

Generated modules put their names into protobuf's default pool, where a client library in the same process (Triton's,
KServe's) may have put the same ones before, and one of the two then fails to import. These live in a pool of their
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infersdk.errors import MissingDependencyError

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ModuleNotFoundError as error:
    raise MissingDependencyError.for_extra("protobuf", "grpc", "Serving by gRPC") from error

__all__ = ["Schema"]

_Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


class Schema:
    """The messages of one protobuf package.

    Parameters
    ----------
    package : str
        E.g. ``"inference"``.
    messages : Mapping of str to str
        A message's name to its fields, ``number type name`` each, with commas between them. A message within
        another is called ``"Outer.Inner"`` and comes after it. A type is a scalar's name or a message's. With ``*``
        after it the field is repeated, with ``{}`` a map from strings, with ``?`` one of the message's only oneof.

    Examples
    --------
    >>> shop = Schema("shop", {"Item": "1 string name, 2 int64 n", "Order": "1 Item* items"})
    >>> Order = shop["Order"]
    >>> order = Order.FromString(Order(items=[{"name": "pen", "n": 2}]).SerializeToString())
    >>> order.items[0].name
    'pen'
    """

    def __init__(self, package: str, messages: Mapping[str, str]) -> None:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"infersdk/{package}.proto", package=package, syntax="proto3"
        )
        made: dict[str, Any] = {}
        for name, fields in messages.items():
            outer, _, own = name.rpartition(".")
            message = made[outer].nested_type.add() if outer else file.message_type.add()
            message.name = own
            made[name] = message
            for field in filter(None, fields.split(",")):
                number, kind, field_name = field.split()
                _add_field(message, f".{package}.", name, int(number), kind, field_name)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self.package = package
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in messages
        }

    def __getitem__(self, name: str) -> Any:
        """A message's class: ``SerializeToString``, ``FromString`` and what else protobuf's classes have."""
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes


def _add_field(
    message: Any, package: str, message_name: str, number: int, kind: str, name: str
) -> None:
    plain = kind.rstrip("*?{}")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind.endswith("{}"):
        # A map is a repeated message of key and value, called by its field's name.
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "", 1, "string", "key")
        _add_field(entry, package, "", 2, plain, "value")
        field.label = _Field.LABEL_REPEATED
        _set_type(field, f"{package}{message_name}.{entry.name}")
        return
    if kind.endswith("*"):
        field.label = _Field.LABEL_REPEATED
    elif kind.endswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        _set_type(field, package + plain)


def _set_type(field: Any, name: str) -> None:
    field.type = _Field.TYPE_MESSAGE
    field.type_name = name
