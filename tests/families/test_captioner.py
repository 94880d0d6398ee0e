"""Captioners: what a caption depends on, that captions belong to their own pictures, and what
starts an encoder.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import __main__ as command_line
from genjax.data.dataset import Spec
from genjax.data.pictures import png_bytes
from genjax.data.sources import CaptionedShapes, ShapeCaptions
from genjax.data.sources.captioned import COMBINATIONS, Scene, render, write_captions
from genjax.data.text.captions import inline
from genjax.data.text.codecs import Words
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.captioner import (
    CaptionDecoding,
    Captioner,
    Picture,
    caption_images,
)
from genjax.families.autoregressive.request import Decoding
from genjax.families.classifier import Classifier
from genjax.family import init_state
from genjax.nets.bigram import Bigram
from genjax.nets.conv.resnet import ResNet
from genjax.nets.transformer.image_encoder import ImageEncoder, Patches
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.samplers.tokens.decoding import TokenSampler
from genjax.schedules import Constant
from genjax.start_from import StartFrom

KEY = jax.random.key(0)
V, T = 11, 8
START, END = 2, 3
SCENE = Scene("cross", "blue", "in the middle", "large")
PICTURE = inline(png_bytes(render(SCENE)))
NET = Transformer(layers=2, heads=2, width=16, context=T, init_std=0.3)
SMALL = Captioner(
    NET, sampler=CaptionDecoding(steps=6, image=PICTURE), encoder=ImageEncoder(Patches(4), 8, 1, 2)
)
SPEC = Spec("tokens", (T + 1,), np.zeros(T + 1, np.float32), vocabulary=V, image=(8, 8, 3))


def batch_of(n, seed=0):
    one, two = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(one, (n, 8, 8, 3)),
        "tokens": jax.random.randint(two, (n, T + 1), 0, V),
        "loss_mask": jnp.ones((n, T + 1)).at[:, 0].set(0),
        "mask": jnp.ones(n),
    }


def state_of(family, spec=SPEC):
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1), spec))()
    return init_state(params, variables, SGD(Constant(0.1)).build(10), KEY)


@pytest.fixture(scope="module")
def state():
    return state_of(SMALL)


def test_a_prediction_depends_on_the_picture_and_on_the_tokens_before_it(state):
    batch = batch_of(2)
    nll = jax.jit(lambda batch: SMALL.predict(state.params, batch).nll)
    before = nll(batch)
    for place in range(T + 1):
        after = nll(batch | {"tokens": batch["tokens"].at[0, place].add(1).__mod__(V)})
        changed = np.argwhere(np.abs(np.asarray(after - before)) > 1e-6)
        assert changed.tolist() == [[0, i] for i in range(max(place - 1, 0), T)]
    after = nll(batch | {"image": batch["image"].at[1, 7, 7, 2].add(1)})
    changed = np.abs(np.asarray(after - before)) > 1e-6
    assert changed[1].all() and not changed[0].any()


def test_gradients_reach_every_parameter_of_the_encoder_and_the_decoder(state):
    batch = batch_of(4)
    grads = jax.jit(jax.grad(lambda params: SMALL.predict(params, batch).nll.mean()))(state.params)
    assert set(grads) == {"encoder", "decoder"}
    for path, g in jax.tree_util.tree_leaves_with_path(grads):
        # Softmax does not feel what is added to all scores of a query.
        assert jnp.abs(g).max() > 1e-6 or "key/bias" in jax.tree_util.keystr(
            path, simple=True, separator="/"
        )


def test_bfloat16_parameters_give_nearly_the_same(state):
    batch = batch_of(3)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), state.params)
    nll = jax.jit(lambda params: SMALL.predict(params, batch).nll)
    exact, near = nll(state.params), nll(half)
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, exact, atol=0.3)


@pytest.mark.long
def test_a_batch_of_captions_is_judged_as_it_is_trained(state):
    batch = batch_of(6)
    batch["loss_mask"] = batch["loss_mask"].at[::2].multiply(jnp.arange(T + 1)[None] < 4)
    weight = np.asarray(batch["loss_mask"][:, 1:])
    nll = np.asarray(SMALL.predict(state.params, batch).nll)
    loss = jax.jit(lambda: SMALL.evaluate(state, batch, KEY))()["loss"].value
    np.testing.assert_allclose(loss, (nll * weight).sum() / weight.sum(), rtol=1e-6)
    rule = SGD(Constant(0.1)).build(10)
    _, metrics = jax.jit(lambda state: SMALL.train_step(state, batch, optimizer=rule))(state)
    np.testing.assert_allclose(metrics["loss"].value, loss, rtol=1e-5)


@pytest.mark.parametrize("scan", [False, True], ids=["layers", "scanned"])
def test_greedy_captions_by_the_cache_are_the_likeliest_tokens_of_the_whole_model(scan):
    family = replace(SMALL, net=replace(NET, scan_layers=scan))
    state, images = state_of(family), batch_of(5)["image"]
    written = np.asarray(
        jax.jit(lambda images: caption_images(family, state, images, START, END))(images)
    )
    assert written.shape == (5, T)
    score = jax.jit(lambda batch: family.predict(state.params, batch).nll)
    for image, row in zip(images, written, strict=True):
        tokens = jnp.asarray([[START, *row]])
        for place in range(T):
            rows = jnp.tile(tokens, (V, 1)).at[:, place + 1].set(jnp.arange(V))
            tiled = jnp.broadcast_to(image, (V, *image.shape))
            best = score(
                {
                    "image": tiled,
                    "tokens": rows,
                    "loss_mask": jnp.ones(rows.shape),
                    "mask": jnp.ones(V),
                }
            )
            assert best[:, place].argmin() == row[place]
            if row[place] == END:
                assert (row[place:] == END).all()
                break
    assert len({tuple(row) for row in written}) > 1  # pictures count


def test_permuted_pictures_have_permuted_captions(state):
    images, order = batch_of(6)["image"], np.array([3, 0, 5, 1, 4, 2])
    drawn = jax.jit(lambda images: caption_images(SMALL, state, images, START, END))
    np.testing.assert_array_equal(drawn(images[order]), drawn(images)[order])
    options, keys = TokenSampler(5, temperature=2.0), list(jax.random.split(KEY, 2))
    one, two = jax.jit(
        lambda: [caption_images(SMALL, state, images, START, END, options, key) for key in keys]
    )()
    assert one.shape == (6, 5) and not np.array_equal(one, two)


@pytest.mark.long
def test_samples_are_captions_of_the_one_picture_that_is_asked_for(state):
    images = batch_of(2)["image"]
    greedy = replace(SMALL.sampler, steps=T, temperature=0.0, tokens=(START,), ends=(END,))
    wanted = np.asarray(jax.jit(lambda: caption_images(SMALL, state, images, START, END))())
    for image, row in zip(np.asarray(images), wanted, strict=True):
        request = replace(
            replace(greedy, image=None).encode(Words(("a",)), {}), picture=Picture.of(image)
        )
        hash(request)
        drawn = jax.jit(lambda r=request: SMALL.sample(state, KEY, 3, r))()
        np.testing.assert_array_equal(drawn[:, 1:], np.tile(row, (3, 1)))
        beams = replace(request, decoding=replace(greedy, temperature=1.0, beams=2))
        best = jax.jit(lambda r=beams: SMALL.sample(state, KEY, 2, r))()
        assert best.shape == (2, 1 + T) and not np.array_equal(best[0], best[1])


def experiment(**changes):
    net = Transformer(layers=1, heads=2, width=32, context=16)
    family = Captioner(
        net, sampler=CaptionDecoding(12, temperature=0.0, image=PICTURE), encoder=SMALL.encoder
    )
    settings = {
        "family": family,
        "data": ShapeCaptions(60, 20),
        "optimizer": Adam(Constant(0.01)),
        "steps": 4,
        "batch_size": 20,
        "every": Every(log=2, evaluate=4, sample=4, checkpoint=4),
        "devices": Devices(count=1),
    }
    return Experiment(**settings | changes)


@pytest.mark.long
def test_a_run_captions_the_file_that_is_named(tmp_path, capsys):
    run = genjax.train(experiment(), tmp_path / "run", quiet=True)
    text = (run.run_dir / "samples" / "00000004.txt").read_text().splitlines()
    assert len(text) == 8 and len(set(text)) == 1
    loaded = genjax.load(run.run_dir)
    scene = COMBINATIONS[7]
    (tmp_path / "shape.png").write_bytes(png_bytes(render(scene)))
    (tmp_path / "wide.png").write_bytes(png_bytes(render(scene, 20)))
    image = jnp.asarray(loaded.codec.image.encode(render(scene)))[None]
    row = caption_images(
        run.experiment.family, run.state, image, loaded.codec.start, loaded.codec.end
    )[0]
    words = [
        "sample",
        str(run.run_dir),
        "--num",
        "1",
        "--out",
        str(tmp_path / "said"),
        "--sampler.image",
    ]
    assert command_line.main([*words, str(tmp_path / "shape.png")]) == 0
    said = (tmp_path / "said.txt").read_text()
    options = replace(run.experiment.family.sampler, image=str(tmp_path / "shape.png"))
    np.testing.assert_array_equal(loaded.sample(1, options=options)[0, 1:], row[:12])
    told = []
    assert (
        loaded.write_samples(tmp_path / "told", 1, options=options, show=told.append).read_text()
        == said
    )
    assert "".join(told) == said
    capsys.readouterr()
    for given, problem in (
        ("wide.png", "must have 16x16 pixels, got 20x20"),
        ("none.png", "cannot be read"),
    ):
        assert command_line.main([*words, str(tmp_path / given)]) == 2
        assert problem in capsys.readouterr().err
    assert command_line.main([*words, "None"]) == 2
    assert "sampler.image is needed: name the file of the picture" in capsys.readouterr().err
    with pytest.raises(UserError, match="have no source"):
        loaded.sample(1, options=replace(options, source="a cross"))


@pytest.mark.long
def test_captions_are_learned_from_pictures(tmp_path):
    """By heart: what is written of each is a sentence about it."""
    run = genjax.train(
        experiment(steps=400, every=Every(400, 0, 0, 400)), tmp_path / "run", quiet=True
    )
    data = run.experiment.data.open()
    split = data.splits["train"]
    images = jnp.asarray(split.batch(np.arange(20))["image"])
    rows = caption_images(
        run.experiment.family, run.state, images, data.codec.start, data.codec.end
    )
    ends = [np.flatnonzero(np.asarray(row) == data.codec.end) for row in rows]
    said = [
        data.codec.decode(np.asarray(row)[: end[0]]) for row, end in zip(rows, ends, strict=True)
    ]
    right = [text in write_captions(scene) for text, scene in zip(said, split.scenes, strict=False)]
    assert np.mean(right) > 0.9


@pytest.mark.long
def test_an_encoder_begins_with_the_backbone_of_a_classifier(tmp_path):
    backbone = ResNet((4, 8), (1, 0), norm="group", groups=4)
    eyes = experiment(
        family=Classifier(backbone), data=CaptionedShapes(60, 20), every=Every(4, 0, 0, 4)
    )
    trained = genjax.train(eyes, tmp_path / "eyes", quiet=True)
    family = replace(experiment().family, encoder=ImageEncoder(backbone, 8, 1, 2))
    start = StartFrom(str(tmp_path / "eyes"), (("^backbone/", "encoder/backbone/"),))
    frozen = SGD(Constant(0.1), freeze=("encoder/backbone/.*",))
    wanted = experiment(family=family, start_from=start, optimizer=frozen)
    run = genjax.train(wanted, tmp_path / "run", quiet=True)
    begun, learned = run.state.params["encoder"]["backbone"], trained.state.params["backbone"]
    jax.tree.map(np.testing.assert_array_equal, begun, learned)


def test_what_does_not_fit_is_refused(state):
    with pytest.raises(UserError, match="must be a Transformer in a captioner"):
        replace(SMALL, net=Bigram(T))
    for family, spec, words in (
        (SMALL, replace(SPEC, image=None), "have only tokens"),
        (SMALL, replace(SPEC, packed=True), "one caption per row"),
        (SMALL, replace(SPEC, shape=(T + 2,)), "have 9 predictions, got 8"),
        (SMALL, replace(SPEC, image=(9, 8, 3)), "side must divide the image size 9x8, got 4"),
        (
            SMALL,
            Spec("image", (8, 8, 3), np.zeros((8, 8, 3), np.float32)),
            "needs tokens, but the data are image",
        ),
        (replace(SMALL, sampler=CaptionDecoding()), SPEC, "needed for samples"),
    ):
        example = batch_of(1) | {"image": jnp.zeros((1, *(spec.image or (8, 8, 3))))}
        with pytest.raises(UserError, match=words):
            family.init(KEY, example, spec)
    images = batch_of(2)["image"]
    with pytest.raises(UserError, match=r"must have shape \[8, 8, 3\], got \[8, 4, 3\]"):
        caption_images(SMALL, state, images[:, :, :4], START, END)
    with pytest.raises(UserError, match=r"a row must have at most 8 tokens \(context\), got 9"):
        caption_images(SMALL, state, images, START, END, TokenSampler(9))
    for options in (Decoding(4), CaptionDecoding(4).encode(Words(("a",)), {})):
        with pytest.raises(UserError, match="name the file"):
            SMALL.sample(state, KEY, 1, options)
    request = CaptionDecoding(4, source_tokens=(1,)).encode(Words(("a",)), {})
    with pytest.raises(UserError, match="reads no source"):
        SMALL.sample(state, KEY, 1, replace(request, picture=Picture.of(np.zeros((8, 8, 3)))))
    with pytest.raises(UserError, match="an autoregressive model needs tokens"):
        Autoregressive(NET).init(KEY, batch_of(1), replace(SPEC, vocabulary=None))
