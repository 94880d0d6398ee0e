"""The pages over an encrypted store, whose users have pseudonyms."""

import re

import pytest

pytest.importorskip("itsdangerous", reason="the pages are an extra: pip install '.[serve]'")
pytest.importorskip("lancedb", reason="the store is an extra: pip install '.[store]'")

from benchmarks.screenshots import SHOTS, make_context
from genjax.store.privacy.keys import VARIABLE, make_key
from genjax.store.privacy.plan import Plan, parse_encrypted
from tests.serve_pages.scripted import visit

PLAN = Plan(parse_encrypted(["fields", "blobs"]), index="redacted", pseudonyms=True)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A plain store and an encrypted one of the same records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, make_key())
        folder = tmp_path_factory.mktemp("pages")
        found = []
        for name, plan in (("plain", Plan()), ("encrypted", PLAN)):
            (folder / name).mkdir()
            found.append(make_context(folder / name, privacy=plan))
        yield found
        for context in found:
            context.index.close()
            context.store.close()


def read_words(context, path):
    answer = visit(context, "a token of an admin").get(path)
    assert answer.status_code == 200
    page = re.sub(r"(?s)<(style|script|svg).*?</\1>|<[^>]*>", " ", answer.text)
    return re.sub(r"p-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{20,}|[\d:.-]+", "", page).split()


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_every_page_shows_what_it_shows_of_a_plain_store(shot, both):
    plain, sealed = (read_words(context, shot.path) for context in both)
    new = [word for word in sealed if word not in set(plain)]
    assert len(sealed) > 20 and "gAAAA" not in " ".join(sealed)
    assert len(new) <= 0.05 * len(sealed), new


@pytest.mark.parametrize(
    "path",
    [
        "search?q=x&filter=metadata.a=1",
        "sessions?filter=name=x",
        "images?filter=text:x",
        "evaluate?filter=text:x",
    ],
)
def test_a_filter_on_an_encrypted_field_is_one_line(path, both):
    answer = visit(both[1], "a token of an admin").get(f"/{path}")
    assert answer.status_code == 400 and "is encrypted in this store" in answer.text
