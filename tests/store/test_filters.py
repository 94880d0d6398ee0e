"""The text form of filters."""

from datetime import UTC, datetime

import pytest

from genjax.errors import UserError
from genjax.store.filters import All, Any_, Compare, Not, parse_filter


def test_terms_brackets_and_words_bind_as_the_docstring_says():
    parsed = parse_filter('kind=response (tags:poem or score>=0.5) not metadata.lang="d e"')
    assert parsed == All(
        (
            Compare("kind", "=", "response"),
            Any_((Compare("tags", ":", "poem"), Compare("score", ">=", 0.5))),
            Not(Compare("metadata.lang", "=", "d e")),
        )
    )
    both = parse_filter("a=1 and b=2 or c=3")
    assert both == Any_((All((Compare("a", "=", 1), Compare("b", "=", 2))), Compare("c", "=", 3)))
    assert parse_filter("  ") == All(())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=-3.5e2", -350.0),
        ("a=true", True),
        ("a=null", None),
        ('a="null"', "null"),
        ('a="3"', "3"),
        ('a="say \\"x\\" \\\\"', 'say "x" \\'),
        ("a=2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("a=2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("a=2026-01-02T03:04+01:00", datetime(2026, 1, 2, 2, 4, tzinfo=UTC)),
        ("a='; DROP TABLE records;--", "';"),
        ("a=größer", "größer"),
    ],
)
def test_values_have_types(text, value):
    if "DROP" in text:  # words that are no term are refused, not passed on
        with pytest.raises(UserError):
            parse_filter(text)
    else:
        assert parse_filter(text) == Compare("a", "=", value)
        assert type(parse_filter(text).value) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "=3",
        "(a=1",
        "a=1)",
        "a=1 or",
        "not",
        "a==3",
        'a="x',
        "1a=3",
        "a<null",
        "a<1e999",
        "a=2026-13-40",
        "a.=1",
        "(" * 40 + "a=1" + ")" * 40,
        "not " * 5000 + "a=1",
        "a=1 " * 5000,
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text):
    with pytest.raises(UserError) as error:
        parse_filter(text)
    assert error.value.field == "filter"
    assert "\n" not in str(error.value)
