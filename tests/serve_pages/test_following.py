"""While the pages are open, the index follows the store by itself."""

import time

import pytest

pytest.importorskip("fastapi", reason="pip install '.[serve,store]'")
from genjax.serve.pages.serving import keep_following
from genjax.store.opening import open_store
from genjax.store.records import Document, Payload
from genjax.store.searching import open_search, search


def test_what_is_written_is_found_soon(tmp_path):
    with open_store(str(tmp_path / "talk.db"), create=True) as store:
        index = open_search(store)
        with keep_following(store, index, every=0.05):
            store.add(Document(origin="real", payload=Payload(text="a heron by the weir")))
            deadline = time.monotonic() + 60
            while not (found := search(store, index, "heron")).hits or found.behind:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        index.close()
