"""One server for the tests of the API."""

import functools

import pytest

pytest.importorskip("fastapi", reason="the server is an extra: pip install '.[serve]'")
pytest.importorskip("sqlalchemy", reason="the store is an extra: pip install '.[store]'")

from genjax.serve.limits import Limits
from genjax.serve.recording import Recorder
from genjax.store.opening import open_store
from tests import serving


@pytest.fixture(scope="session")
def chat_run(trained):
    return trained.once("serve_chat", serving.train_chat)


@pytest.fixture(scope="session")
def places(trained, chat_run):
    """A run that writes, one that draws, one that encodes, one that sounds."""
    train = lambda name: functools.partial(serving.train_config, name)  # noqa: E731
    return [
        f"chat={chat_run}",
        f"pictures={trained.once('serve_pictures', serving.train_pictures)}",
        f"encoder={trained.once('serve_encoder', train('mlm_docs'))}",
        f"tones={trained.once('serve_tones', train('diffusion_tones'))}",
    ]


@pytest.fixture(scope="session")
def store_path(tmp_path_factory):
    return tmp_path_factory.mktemp("serve") / "talk.db"


@pytest.fixture(scope="session")
def served(places, store_path):
    recorder = Recorder(open_store(str(store_path), create=True))
    with serving.Served(places, Limits(batch=4, patience=5), recorder) as served:
        yield served


@pytest.fixture(autouse=True)
def same_seeds(request):
    """Each test of the shared server draws with the same seeds, in whatever order tests run."""
    if "served" in request.fixturenames:
        request.getfixturevalue("served").restart_seeds()


@pytest.fixture
def client(served):
    """The official client, as it comes."""
    openai = pytest.importorskip("openai", reason="the client is an extra: pip install '.[test]'")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        yield client
