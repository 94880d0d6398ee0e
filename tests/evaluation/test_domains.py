"""Perplexity by domain: each token counts for the domain of its own document, however rows are
laid out.
"""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from genjax.data.sources import PythonDocs, TextFiles, TextTables
from genjax.data.text.codecs import Bytes
from genjax.data.text.corpus import Corpus
from genjax.data.text.layouts import Documents, Packed, RandomWindows
from genjax.data.text.splits import ByCharacters, ByDocuments, ByFiles
from genjax.errors import UserError
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.evaluation.text.domains import REST, DomainPerplexity, estimate_ratio, make_remarks
from tests.evaluation.bigrams import subject

TABLE = np.random.default_rng(0).dirichlet(np.full(257, 0.3), 257)
TEXTS = {
    "play": ["to be or not", "a horse", "my kingdom for it"],
    "code": ["x = 1", "for y in z: x += y"],
}


@pytest.fixture
def folder(tmp_path):
    for domain, texts in TEXTS.items():
        (tmp_path / domain).mkdir()
        for number, text in enumerate(texts):
            (tmp_path / domain / f"{number}.txt").write_text(text)
    (tmp_path / "train.txt").write_text("abc")
    (tmp_path / "more.txt").write_text("one by itself")
    return tmp_path


def nll(text):
    """Of the bytes of a document between its start and its end."""
    ids = [256, *text.encode(), 256]
    return [-math.log(TABLE[a, b]) for a, b in itertools.pairwise(ids)]


@pytest.mark.parametrize("layout", [Packed(20), Packed(64), Documents(32)])
def test_perplexities_are_those_of_the_documents_alone(folder, layout):
    data = TextFiles(
        str(folder),
        "**/*.txt",
        codec=Bytes(True),
        layout=layout,
        split=ByFiles("*[ey]/*"),
        cache=str(folder / "c"),
    ).open()
    found = DomainPerplexity(None)(subject(data, TABLE)).numbers
    for domain, texts in TEXTS.items():
        losses = [nll(text) for text in texts]
        np.testing.assert_allclose(
            found[f"perplexity_{domain}"], np.exp(np.concatenate(losses).mean()), rtol=1e-4
        )
        bits = sum(map(sum, losses)) / math.log(2) / sum(len(text) for text in texts)
        np.testing.assert_allclose(found[f"bits_per_byte_{domain}"], bits, rtol=1e-4)
    assert not any("train" in name or "more" in name for name in found)


def test_windows_over_several_documents_tell_them_apart(folder):
    layout = RandomWindows(7)
    data = TextFiles(
        str(folder),
        "**/*.txt",
        codec=Bytes(),
        layout=layout,
        split=ByFiles("*[ey]/*"),
        cache=str(folder / "c"),
    ).open()
    found = DomainPerplexity(None)(subject(data, TABLE)).numbers
    text = "".join(TEXTS["code"] + TEXTS["play"]).encode()  # files in their order
    losses = [-math.log(TABLE[a, b]) for a, b in itertools.pairwise(text)]
    border = (
        len("".join(TEXTS["code"])) - 1
    )  # the first letter of the plays is predicted from the code's last one
    np.testing.assert_allclose(
        found["perplexity_code"], np.exp(np.mean(losses[:border])), rtol=1e-4
    )
    np.testing.assert_allclose(
        found["perplexity_play"], np.exp(np.mean(losses[border:])), rtol=1e-4
    )


def test_every_token_is_of_its_document(folder):
    for layout in (Packed(9), Documents(9), RandomWindows(5)):
        data = TextFiles(
            str(folder),
            "**/*.txt",
            codec=Bytes(True),
            layout=layout,
            split=ByFiles("*[ey]/*"),
            cache=str(folder / "c"),
        ).open()
        split = data.splits["test"]
        rows = np.arange(len(split))[::-1]
        batch, documents = split.batch(rows), split.documents(rows)
        for document in range(len(split.corpus)):
            ids = split.corpus.document(document).tolist()
            counted = batch["tokens"][(documents == document) & (batch["loss_mask"] > 0)].tolist()
            # Of windows the very first token is never predicted.
            expected = sorted(
                ids[1:] if isinstance(layout, RandomWindows) and document == 0 else ids
            )
            assert sorted(counted) == expected
        assert (batch["loss_mask"][documents < 0] == 0).all()


def test_a_table_tells_domains_by_a_column_or_by_its_file(tmp_path):
    rows = [{"text": f"text {i}", "kind": ("web", "book", 3, None)[i % 4]} for i in range(12)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    header = "text,kind\n" + "\n".join(f"{row['text']},{row['kind'] or ''}" for row in rows)
    (tmp_path / "b.csv").write_text(header)

    def domains(pattern, domain):
        source = TextTables(
            str(tmp_path),
            pattern,
            codec=Bytes(),
            layout=Packed(9),
            split=ByDocuments(),
            cache=str(tmp_path / "c"),
        )
        source = TextTables(**{**vars(source), "domain": domain, "split": ByCharacters(0.0)})
        corpus = source.open().splits["train"].corpus
        return [corpus.domains[i] for i in corpus.domain]

    assert domains("a.jsonl", "kind") == domains("b.csv", "kind") == ["web", "book", "3", ""] * 3
    assert domains("a.jsonl", None) == ["a.jsonl"] * 12
    with pytest.raises(UserError, match="unknown column 'kin'; did you mean 'kind'"):
        domains("a.jsonl", "kin")


def test_further_domains_are_taken_together(tmp_path):
    data = PythonDocs(codec=Bytes(True), layout=Packed(64), cache=str(tmp_path)).open()
    table = np.full((257, 257), 1e-3)
    table[:, ord(" ")] = 1
    found = DomainPerplexity(400, shown=3)(subject(data, table / table.sum(1, keepdims=True)))
    names = [n.removeprefix("perplexity_") for n in found.numbers if n.startswith("perplexity_")]
    assert len([n for n in names if not n.endswith(("_low", "_high"))]) == 4 and REST in names
    for name in names[:1]:
        low, value, high = (
            found.numbers[f"perplexity_{name}{end}"] for end in ("_low", "", "_high")
        )
        assert low < value < high
    assert found.pictures["perplexity_by_domain"].ndim == 3


def test_a_harder_domain_is_named_and_one_like_the_others_is_not():
    draw, weight = np.random.default_rng(0), np.full((3, 40), 10.0)
    total = weight * (np.array([[2.0], [2.05], [3.0]]) + 0.2 * draw.normal(size=(3, 40)))
    (remark,) = make_remarks(["a", "b", "c"], total, weight, 2.4)
    assert remark.startswith("c is harder than the other domains: perplexity ") and "20" in remark
    assert not make_remarks(["a", "b"], total[:2], weight[:2], 2.4) and not make_remarks(
        ["a"], total[:1], weight[:1], 2.4
    )


def test_intervals_hold_the_ratio_as_often_as_they_say():
    draw, held = np.random.default_rng(0), 0
    for _ in range(1000):
        weight = draw.integers(0, 30, 60).astype(float)
        total = draw.poisson(
            2.0 * weight * draw.gamma(4, 1 / 4, 60)
        )  # rows differ more than tokens do
        value, low, high = estimate_ratio(total, weight, 1.96)
        assert value == total.sum() / weight.sum()
        held += low < 2.0 < high
    assert 0.92 < held / 1000 < 0.97
    assert np.isnan(estimate_ratio(np.array([3.0, 0]), np.array([1.0, 0]), 2).low)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="limit must be at least 2"):
        DomainPerplexity(1)
    with pytest.raises(UserError, match="confidence"):
        DomainPerplexity(confidence=1.0)
    data = PythonDocs(codec=Bytes(True), layout=Packed(64), cache=str(tmp_path)).open()
    untold = Packed(64).split(Corpus(np.arange(9, dtype=np.uint16), np.array([0, 9])), data.codec)
    with pytest.raises(
        UserError, match="DomainPerplexity needs a source with domains of texts, which"
    ):
        DomainPerplexity()(dataclasses.replace(subject(data, TABLE), splits={"test": untold}))


def test_the_gap_of_a_table_between_training_and_held_out_text_is_that_of_their_laws(folder):
    data = TextFiles(
        str(folder),
        "**/*.txt",
        codec=Bytes(True),
        layout=Packed(40),
        split=ByFiles("play/*"),
        cache=str(folder / "c"),
    ).open()
    found = GeneralisationGap()(subject(data, TABLE)).numbers
    held_out = np.concatenate([nll(text) for text in TEXTS["play"]]).mean()
    train = np.concatenate([nll(text) for text in (*TEXTS["code"], "abc", "one by itself")]).mean()
    rows = {name: len(split) for name, split in data.splits.items()}
    assert rows == {"train": 2, "test": 2}  # as many rows of either, so all of both
    np.testing.assert_allclose(found["train_loss"], train, rtol=1e-4)
    np.testing.assert_allclose(found["gap_loss"], held_out - train, rtol=1e-3)
    assert "gap_bits_per_byte" in found
