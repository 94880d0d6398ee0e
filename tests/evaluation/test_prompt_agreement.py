"""The share of asked attributes that samples show, of a model whose samples are known."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import CaptionedShapes, Digits
from genjax.data.sources.captioned import (
    ATTRIBUTES,
    COMBINATIONS,
    SHIFTS,
    attributes,
    is_held_out,
    render,
    render_scenes,
    write_captions,
)
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError
from genjax.evaluation.captions.agreement import (
    PromptAgreement,
    find_scenes,
    make_prompts,
    match_attributes,
)
from genjax.evaluation.judge import Model, Subject
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from genjax.samplers import Euler

TEXT = HashedText(96)


@dataclass(frozen=True)
class Painter(Diffusion):
    """Draws what a prompt asks for; with a ``colour`` all of it in that one."""

    colour: str = ""

    def denoise(self, state, n, options, text=None):
        said = [(caption, scene) for scene in COMBINATIONS for caption in write_captions(scene)]
        texts = jnp.asarray(np.stack([self.text.embed(caption) for caption, _ in said]))
        scenes = [
            scene._replace(colour=self.colour or scene.colour, shift=(1, -1)) for _, scene in said
        ]
        pictures = jnp.asarray(render_scenes(scenes) / 127.5 - 1, jnp.float32)
        return lambda x, t: pictures[jnp.argmax(text @ texts.T, -1)]


PAINTER = Painter(target="x0", text=TEXT, sampler=Denoising(Euler(1), clip=True))


@pytest.fixture(scope="module")
def data():
    return CaptionedShapes(40, 30, text=TEXT).open()


def subject(data, family):
    state = State(
        jnp.zeros((), jnp.int32),
        {},
        None,
        {"mean": jnp.zeros((16, 16, 3))},
        None,
        jax.random.key(0),
    )
    model = Model(family, state, data.spec, data.codec, "step 0")
    return Subject(
        model, data.splits, "test", jax.random.key(1), parallel.start(Devices(count=1)), 16
    )


def test_a_painter_of_what_is_asked_for_has_all_of_it(data):
    found = PromptAgreement()(subject(data, PAINTER))  # 480 prompts in chunks of 256
    assert len(found.numbers) == 11 and set(found.numbers.values()) == {1.0}
    assert "240 prompts about combinations held out and as many about others" in found.protocol
    assert "nearest of 2,160 pictures" in found.protocol and found.pictures["prompts"].shape[2] == 3


def test_what_is_drawn_otherwise_counts_against_the_attribute_that_is_asked_for(data):
    found = PromptAgreement(prompts=48, shown=2)(
        subject(data, replace(PAINTER, colour="red"))
    ).numbers
    for group in ("held_out", "seen"):
        asked = [attributes(prompt) for prompt in make_prompts(group, 48)]
        red = sum(named["colour"] == "red" for named in asked)
        sized = sum("size" in named for named in asked)
        np.testing.assert_allclose(found[f"colour_found_{group}"], red / 48)
        assert {found[f"{name}_found_{group}"] for name in ("shape", "place", "size")} == {1.0}
        np.testing.assert_allclose(
            found[f"attributes_found_{group}"], (2 * 48 + red + sized) / (3 * 48 + sized)
        )


def test_prompts_are_of_their_group_and_spread_over_its_combinations_and_forms():
    for group, forms in (("held_out", 3), ("seen", 5)):
        pool = [scene for scene in COMBINATIONS if is_held_out(scene) == (group == "held_out")]
        form_of = {caption: i for scene in pool for i, caption in enumerate(write_captions(scene))}
        for count in (1, 24, 240, 1000):
            prompts = make_prompts(group, count)
            assert len(prompts) == count and {form_of[prompt] for prompt in prompts} == set(
                range(min(count, forms))
            )
            told = {
                tuple(attributes(prompt)[name] for name in ATTRIBUTES[:3]) for prompt in prompts
            }
            assert len(told) == min(count, len({scene[:3] for scene in pool}))
    # A combination that is held out is requested with its size: without, it is one of those in
    # training.
    trained = {caption for _, caption in CaptionedShapes().make_examples("train")}
    assert not trained & set(make_prompts("held_out", 240)) and trained & set(
        make_prompts("seen", 240)
    )


def test_a_picture_is_taken_for_its_scene_at_every_shift_and_for_it_still_when_it_is_damaged():
    scenes = [scene._replace(shift=shift) for scene in COMBINATIONS[::7] for shift in SHIFTS]
    pictures = render_scenes(scenes)
    assert find_scenes(pictures) == scenes
    noise = np.random.default_rng(0).integers(-12, 13, pictures.shape)
    assert find_scenes(np.clip(pictures + noise, 0, 255).astype(np.uint8)) == scenes
    larger = find_scenes(np.stack([render(scenes[5], 20)]))
    assert larger == [scenes[5]]


def test_what_a_prompt_does_not_name_does_not_count():
    scene = COMBINATIONS[0]
    found = match_attributes(
        [write_captions(scene)[0], write_captions(scene)[3]],
        [scene._replace(size="large", shape="cross")] * 2,
    )
    assert [name for name, value in zip(ATTRIBUTES, found[0], strict=True) if value] == [
        "colour",
        "place",
    ]
    np.testing.assert_array_equal(found[1], [0, 1, 1, np.nan])


def test_what_cannot_be_judged_is_refused(data):
    PromptAgreement().check(PAINTER, data.spec, {})
    with pytest.raises(UserError, match="PromptAgreement needs a Diffusion, got a VAE"):
        PromptAgreement().check(VAE(2, MLPCoder((4,))), data.spec, {})
    for family in (Diffusion(), replace(PAINTER, conditional=True)):
        with pytest.raises(UserError, match="conditioned on text alone"):
            PromptAgreement().check(family, data.spec, {})
    for fields in ({"prompts": 0}, {"shown": 0}, {"prompts": 3, "shown": 4}):
        with pytest.raises(UserError, match=f"^{next(iter(fields))} must be"):
            PromptAgreement(**fields)
    with pytest.raises(UserError, match="which know what their pictures show"):
        PromptAgreement()(replace(subject(data, PAINTER), splits=Digits().open().splits))
