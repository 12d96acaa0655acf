"""The rewriting of pydantic's JSON Schema into what the API server accepts."""

from datetime import datetime
from typing import Any, Literal

import pytest
from pydantic import Field, create_model
from rtj_api.schema import (
    UnsupportedSchemaError,
    fields,
    structural,
    with_open_enums,
    without_defaults,
)
from rtj_api.wire import WireModel

pytestmark = pytest.mark.unit


def one_field(annotation: Any, default: Any = ..., **constraints: Any) -> dict[str, Any]:
    """Return the schema of a field with this type."""
    model = create_model(
        "M", __base__=WireModel, some_field=(annotation, Field(default, **constraints))
    )
    schema: dict[str, Any] = structural(model)["properties"]["someField"]
    return schema


class Leaf(WireModel):
    """A leaf."""

    size: int = 3


class Branch(WireModel):
    """A branch.

    On two lines.
    """

    leaf: Leaf = Field(default_factory=Leaf, description="Its leaf.")
    spare: Leaf | None = None
    must: Leaf


class Tree(WireModel):
    """A tree that holds trees."""

    children: list["Tree"] = Field(default_factory=list)


class Left(WireModel):
    """One half of a cycle."""

    right: "Right | None" = None


class Right(WireModel):
    """The other half."""

    left: Left | None = None


def test_references_are_inlined_and_a_field_description_wins_over_the_class() -> None:
    schema = structural(Branch)
    assert schema["description"] == "A branch. On two lines."
    assert schema["properties"]["leaf"] == {
        "description": "Its leaf.",
        "type": "object",
        "default": {},
        "properties": {"size": {"type": "integer", "default": 3, "format": "int64"}},
    }


def test_an_object_with_defaults_inside_is_itself_defaulted_only_if_it_may_be_left_out() -> None:
    properties = structural(Branch)["properties"]
    assert properties["leaf"]["default"] == {}
    assert "default" not in properties["spare"], "None means absent, not an object of defaults"
    assert "default" not in properties["must"]
    assert structural(Branch)["required"] == ["must"]


def test_a_class_used_twice_is_not_taken_for_recursion() -> None:
    assert structural(Branch)["properties"]["spare"]["properties"]["size"]["default"] == 3


@pytest.mark.parametrize("model", [Tree, Left])
def test_a_model_that_contains_itself_is_refused_by_name(model: type[WireModel]) -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"(Tree|Left|Right) contains itself"):
        structural(model)


@pytest.mark.parametrize(
    ("annotation", "constraints", "what"),
    [
        (int | str, {}, "anyOf"),
        (int | str | None, {}, "anyOf"),
        (tuple[int, str], {}, "prefixItems"),
        (int, {"multiple_of": 2}, "multipleOf"),
        (float, {"gt": 0}, "exclusiveMinimum"),
        (set[int], {}, "uniqueItems"),
    ],
)
def test_what_the_api_server_would_ignore_is_refused_with_the_field_named(
    annotation: Any, constraints: dict[str, Any], what: str
) -> None:
    with pytest.raises(UnsupportedSchemaError, match=rf"M\.someField.*{what}"):
        one_field(annotation, **constraints)


def test_an_optional_field_is_not_required_and_never_null() -> None:
    assert one_field(str | None, None) == {"type": "string"}


@pytest.mark.parametrize(
    ("annotation", "constraints", "expected"),
    [
        (Literal["a"], {}, {"type": "string", "enum": ["a"]}),
        (datetime, {}, {"type": "string", "format": "date-time"}),
        (bool, {}, {"type": "boolean"}),
        (float, {}, {"type": "number"}),
        (int, {"le": 7}, {"type": "integer", "maximum": 7, "format": "int32"}),
        (int, {"le": 2**31}, {"type": "integer", "maximum": 2**31, "format": "int64"}),
        (
            dict[str, int],
            {"max_length": 2},
            {
                "type": "object",
                "maxProperties": 2,
                "additionalProperties": {"type": "integer", "format": "int64"},
            },
        ),
        (dict[str, Any], {}, {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (Any, {}, {"x-kubernetes-preserve-unknown-fields": True}),
        (
            list[Leaf],
            {"max_length": 2},
            {
                "type": "array",
                "maxItems": 2,
                "items": structural(Leaf),
            },
        ),
    ],
)
def test_a_type_has_the_kubernetes_form(
    annotation: Any, constraints: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert one_field(annotation, **constraints) == expected


def test_free_json_with_known_keys_takes_no_others() -> None:
    schema = one_field(
        dict[str, Any], json_schema_extra={"properties": {"known": {"type": "string"}}}
    )
    assert schema == {"type": "object", "properties": {"known": {"type": "string"}}}


def test_defaults_and_enumerations_can_be_taken_out_at_any_depth() -> None:
    inner = {"type": "string", "enum": ["a", "b"], "default": "a"}
    schema = {
        "type": "object",
        "default": {},
        "properties": {
            "default": inner,  # a field may have the name of a keyword
            "list": {"type": "array", "items": inner},
            "map": {"type": "object", "additionalProperties": inner},
        },
    }
    open_string = {"type": "string", "maxLength": 64}
    assert with_open_enums(without_defaults(schema)) == {
        "type": "object",
        "properties": {
            "default": open_string,
            "list": {"type": "array", "items": open_string},
            "map": {"type": "object", "additionalProperties": open_string},
        },
    }


def test_fields_are_listed_with_their_path_and_whether_they_are_required() -> None:
    class Root(WireModel):
        """Root."""

        branches: list[Branch] = Field(default_factory=list)

    assert [(path, required) for path, _, required in fields(structural(Root), "root")] == [
        ("root.branches", False),
        ("root.branches[].leaf", False),
        ("root.branches[].leaf.size", False),
        ("root.branches[].spare", False),
        ("root.branches[].spare.size", False),
        ("root.branches[].must", True),
        ("root.branches[].must.size", False),
    ]
