"""Trained runs in retrieval: they order passages, and chat runs write answers."""

import dataclasses
import functools

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server is an extra: pip install '.[serve]'")

import genjax
from genjax.errors import UserError
from genjax.rag.answers import Asking
from genjax.rag.asking import ask
from genjax.rag.chunks import open_tokens
from genjax.rag.citations import UNKNOWN
from genjax.rag.documents import Source
from genjax.rag.generators import RunGenerator
from genjax.rag.ingest import ingest_sources
from genjax.rag.library import open_library
from genjax.rag.prompts import SHORT, Template
from genjax.rag.reranking import ByEncoder, ByReward, open_reranker
from genjax.rag.retrieval import Retrieval, retrieve
from genjax.rag.sections import clean, split_markdown
from genjax.store.opening import open_store
from genjax.store.searching import follow
from tests import serving

TEXTS = {
    "cats": "A cat sleeps about 14 hours a day. Cats purr at 25 hertz.",
    "court": "The court met in Vienna in 1999. Its judges wear red robes.",
    "mill": "Obed kept his notebooks in a cellar below the old mill.",
}
QUESTION = "Where did the court meet?"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    place = tmp_path_factory.mktemp("rag") / "store.db"
    with open_store(str(place), create=True, user="ann") as store:
        sources = [Source(n, n, text, split_markdown(text)) for n, text in TEXTS.items()]
        ingest_sources(store, sources, tokens=open_tokens())
        library = open_library(store)
        follow(store, library.index)
        yield library
        library.close()


def order(library, reranker):
    wide = Retrieval(threshold=0, k=3)
    return [p.source for p in retrieve(library, QUESTION, wide, reranker).passages]


def test_a_trained_reward_model_orders_passages(library, trained):
    train = functools.partial(serving.train_config, "reward_rule")
    reranker = open_reranker(str(trained.once("rag_reward", train)))
    assert isinstance(reranker, ByReward)
    names, texts = zip(*TEXTS.items(), strict=True)
    scores = reranker.score(QUESTION, texts)
    assert scores.shape == (3,) and np.isfinite(scores).all() and len(set(scores)) == 3
    # One by one they are what they are together, so no score depends on its neighbours.
    alone = [float(reranker.score(QUESTION, [text])[0]) for text in texts]
    np.testing.assert_allclose(alone, scores, atol=1e-4)
    best_first = [names[i] for i in np.argsort(-scores)]
    assert order(library, reranker) == best_first


def test_a_trained_encoder_orders_passages(library, trained):
    train = functools.partial(serving.train_config, "mlm_docs")
    reranker = open_reranker(str(trained.once("serve_encoder", train)))
    assert isinstance(reranker, ByEncoder)
    scores = reranker.score(TEXTS["mill"], list(TEXTS.values()))
    assert scores.argmax() == 2 and scores[2] == pytest.approx(1, abs=1e-5)
    assert sorted(order(library, reranker)) == sorted(TEXTS)


@pytest.fixture(scope="module")
def chat(trained):
    return genjax.load(trained.once("serve_chat", serving.train_chat))


def test_a_chat_run_writes_the_answer_by_its_template(library, chat):
    sampler = dataclasses.replace(chat.family.sampler, steps=20, temperature=0.7)
    generator = RunGenerator(chat, sampler, seed=4)
    asking = Asking(Retrieval(k=1), template=Template("{sources}\n{question}"))
    answer = ask(library, QUESTION, generator, asking)
    assert generator.count(answer.prompt) <= generator.budget == 224 - 20
    # The prompt is a turn of the user; what is drawn after it is the answer.
    drawn = dataclasses.replace(sampler, prompt=answer.prompt)
    (row,) = chat.sample(1, 4, drawn)
    begin = len(chat.codec.decode(chat.codec.whole_prompt(answer.prompt)))
    raw = chat.codec.decode(chat.codec.until_end(row))[begin:]
    assert answer.text == (clean(raw).strip() or UNKNOWN)
    assert answer.details["seed"] == 4
    assert ask(library, QUESTION, generator, asking).text == answer.text
    other = ask(library, QUESTION, RunGenerator(chat, sampler, seed=5), asking)
    assert other.text != answer.text
    record = library.store.get(answer.response_id, "any")
    assert record.step == chat.step and record.run == record.generator
    assert answer.checked.faults or not answer.known  # an untrained run cites nothing


def test_passages_that_do_not_fit_a_chat_run_are_left_out(library, chat):
    sampler = dataclasses.replace(chat.family.sampler, steps=100)
    generator = RunGenerator(chat, sampler)
    wide = Asking(Retrieval(threshold=0, k=3), template=Template(SHORT))
    answer = ask(library, QUESTION, generator, wide)
    assert generator.count(answer.prompt) <= generator.budget == 124
    assert len(answer.passages) < 3
    long = Asking(template=Template("word " * 60 + "{question} {sources}"))
    with pytest.raises(UserError) as error:
        ask(library, QUESTION, generator, long)
    assert error.value.field == "question"


def test_runs_that_write_nothing_are_refused(trained):
    run = genjax.load(trained.once("serve_pictures", serving.train_pictures))
    with pytest.raises(UserError) as error:
        RunGenerator(run)
    assert error.value.field == "run"
