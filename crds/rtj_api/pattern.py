r"""What a pattern of `spec.failurePolicy.rules` may be made of.

The API server compiles it with Go's `regexp`, the operator searches with Rust's `regex`. Each takes
what the other refuses, or reads in another way: `{` as itself, `\Q…\E`, `\<`, octal numbers, and
in brackets `[`, `&&`, `--`, `~~` and `\w-x`. This grammar of tokens has none of those.
"""

_LETTERS = r"[afnrtv]|x[0-9A-Fa-f]{2}"
_PUNCTUATION = r"[ !-/:;=?@\[-`{-~]"
_CHARACTER = rf"\\({_PUNCTUATION}|{_LETTERS})"
"""An escaped one; punctuation without `<` and `>`, which Rust has another use for."""
_CLASS = r"\\([dDsSwW]|[pP]([A-Z]|\{[A-Z][A-Za-z_]*\}))"
_NUMBER = r"(0|[1-9][0-9]*)"
_COUNT = rf"\{{{_NUMBER}(,{_NUMBER}?)?\}}"

_IN_BRACKETS = rf"([^\\\[\]&~-]|{_CHARACTER})"
_RANGE_OR_CLASS = rf"({_IN_BRACKETS}(-({_IN_BRACKETS}|[&~]))?|{_CLASS}|\[:\^?[a-z]+:\])"
_BRACKETS = rf"\[\^?(-?([&~]?{_RANGE_OR_CLASS})+[&~]?-?|[&~-])\]"

_FLAGS = r"(im?s?U?|ms?U?|sU?|U)"
_GROUP = rf"\(\?(-?{_FLAGS})?:"
_TOKEN = rf"([^\\\[{{(?]|{_CHARACTER}|{_CLASS}|\\[AbBz]|{_COUNT}|{_BRACKETS}|{_GROUP})"

PATTERN_GRAMMAR = rf"^(\(\?{_FLAGS}\))?(\(*{_TOKEN}|\?)*$"
"""Matches a pattern that, if it compiles at all, means the same to both. Parentheses are followed
by a token so that `(?` begins nothing but a group of `_GROUP`."""
