"""From the pydantic models to the schema that the API server enforces.

Pydantic writes JSON Schema with references and null types; Kubernetes takes only its *structural*
subset of OpenAPI v3. `structural` rewrites the one into the other. What it does not know it
refuses, since a keyword that the API server ignores is a bound that nobody checks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rtj_api.wire import MAX_WORD_LENGTH, WireModel

Schema = dict[str, Any]

_KEPT = (
    "description",
    "type",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "properties",
    "items",
)
_DROPPED = frozenset({"title", "additionalProperties"})
_FREE_JSON: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_INT32_MAX = 2**31 - 1


class UnsupportedSchemaError(ValueError):
    """A model uses something that has no structural form; the message names where and what."""


def structural(model: type[WireModel]) -> Schema:
    """Return the structural OpenAPI v3 schema of `model`, without references.

    Aliases become the property names. Raises `UnsupportedSchemaError` on a model that contains
    itself, a union, a tuple, or a keyword that a structural schema does not have.
    """
    document = model.model_json_schema(by_alias=True)
    return _Converter(document.pop("$defs", {})).convert(document, model.__name__, seen=())


def without_defaults(schema: Schema) -> Schema:
    """Return `schema` with no default anywhere: a status holds only what its writer wrote."""
    return {
        key: value for key, value in _map_children(schema, without_defaults) if key != "default"
    }


def with_open_enums(schema: Schema) -> Schema:
    """Return `schema` with enumerations widened to short strings.

    An operator that is newer than the installed CRD must still be able to write its status.
    """
    widened = dict(_map_children(schema, with_open_enums))
    if widened.pop("enum", None) is not None:
        widened.setdefault("maxLength", MAX_WORD_LENGTH)
    return widened


def with_whole_parts(schema: Schema) -> Schema:
    """Return `schema` with each object in it said to be written as a whole, by one writer.

    So the API server keeps one entry for each in `metadata.managedFields`, not one for each field
    in it, which it would read, compare and write again at every change.
    """
    parts = {
        name: {**part, "x-kubernetes-map-type": "atomic"} if part.get("type") == "object" else part
        for name, part in schema["properties"].items()
    }
    return {**schema, "properties": parts}


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """Yield every field of `schema`, depth first.

    Each is its dotted path (with `[]` for the items of a list), its schema, and whether it is
    required.
    """
    required = schema.get("required", [])
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child, name in required
        inner = f"{path}.{name}"
        while child.get("type") == "array":
            child, inner = child["items"], f"{inner}[]"
        yield from fields(child, inner)


def messages(schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what the rules in `schema` say to who breaks them, depth first.

    Each is the dotted path of the value that the rule looks at, as in `fields`, and the message.
    """
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from messages(child, f"{path}.{name}".removeprefix("."))
    if "items" in schema:
        yield from messages(schema["items"], f"{path}[]")


def _map_children(schema: Schema, change: Callable[[Schema], Schema]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key == "properties":
            yield key, {name: change(child) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            yield key, change(value)
        else:
            yield key, value


class _Converter:
    """Rewrites one JSON Schema document; holds its definitions."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def convert(self, node: Schema, path: str, seen: tuple[str, ...]) -> Schema:
        """Return the structural form of `node`; `seen` are the references that led here."""
        node, seen = self._resolve(node, path, seen)
        node = _without_null(node, path)
        node, seen = self._resolve(node, path, seen)
        if "const" in node:
            node = {**node, "enum": [node["const"]]}
            del node["const"]
        out = _known_keywords(node, path)
        if "description" in out:
            out["description"] = " ".join(out["description"].split())
        if "properties" in out:
            out["properties"] = {
                name: self._property(name, child, out, f"{path}.{name}", seen)
                for name, child in out["properties"].items()
            }
        if "items" in out:
            out["items"] = self.convert(out["items"], f"{path}[]", seen)
        if out.get("type") == "object" and "properties" not in out:
            out |= self._open_object(node, path, seen)
        if out.get("type") == "integer":
            out["format"] = "int32" if out.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"
        if "type" not in out and not out.get("x-kubernetes-int-or-string"):
            out |= _FREE_JSON
        return out

    def _property(
        self, name: str, node: Schema, parent: Schema, path: str, seen: tuple[str, ...]
    ) -> Schema:
        child = self.convert(node, path, seen)
        if child.get("default", ...) is None:
            del child["default"]
        optional = name not in parent.get("required", []) and not _nullable(node)
        if optional and "properties" in child and _has_default(child):
            # The API server fills in defaults only inside objects that are there.
            child["default"] = {}
        return child

    def _open_object(self, node: Schema, path: str, seen: tuple[str, ...]) -> Schema:
        values = node.get("additionalProperties", True)
        if isinstance(values, dict):
            return {"additionalProperties": self.convert(values, f"{path}.*", seen)}
        return _FREE_JSON

    def _resolve(
        self, node: Schema, path: str, seen: tuple[str, ...]
    ) -> tuple[Schema, tuple[str, ...]]:
        """Replace a reference by what it names; keywords beside the reference win."""
        if "$ref" not in node:
            return node, seen
        name = node["$ref"].rpartition("/")[2]
        if name in seen:
            raise UnsupportedSchemaError(f"{path}: {name} contains itself; a CRD cannot say that")
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {**self._definitions[name], **beside}, (*seen, name)


def _known_keywords(node: Schema, path: str) -> Schema:
    extensions = [key for key in node if key.startswith("x-kubernetes-")]
    for key in node.keys() - _DROPPED - {*_KEPT, *extensions}:
        raise UnsupportedSchemaError(f"{path}: {key} has no form in a structural schema")
    return {key: node[key] for key in (*_KEPT, *extensions) if key in node}


def _has_default(schema: Schema) -> bool:
    children = schema.get("properties", {}).values()
    return "default" in schema or any(_has_default(child) for child in children)


def _nullable(node: Schema) -> bool:
    return any(option == {"type": "null"} for option in node.get("anyOf", []))


def _without_null(node: Schema, path: str) -> Schema:
    """Turn `X | None` into X: on the wire a field that is not set is absent, never null."""
    if "anyOf" not in node:
        return node
    options = [option for option in node["anyOf"] if option != {"type": "null"}]
    if len(options) != 1:
        raise UnsupportedSchemaError(f"{path}: anyOf of several types has no structural form")
    return {**options[0], **{key: value for key, value in node.items() if key != "anyOf"}}
