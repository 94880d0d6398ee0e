"""Image captioners: an encoder reads an image, and a decoder writes the caption.

Vinyals et al., arXiv 1411.4555; with attention to places of the image: Xu et al., arXiv 1502.03044.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.generation import TokenReader
from genjax.families.autoregressive.predictions import Attends
from genjax.families.autoregressive.request import Decoding, Request
from genjax.family import Batch, Inputs, Params, State, Trained, Variables, find_input
from genjax.nets.transformer.cache import Memory
from genjax.nets.transformer.image_encoder import ImageEncoder
from genjax.nets.transformer.transformer import Transformer
from genjax.samplers.tokens.decoding import Prompts, TokenSampler, generate


@checks.frozen
class CaptionDecoding(Decoding):
    """Decoding options of captions, with the picture to describe.

    Attributes:
      image: file of the picture, or the picture as a string from
          ``genjax.data.text.captions.inline``.
    """

    image: str | None = None

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> CaptionRequest:
        request = super().encode(codec, others)
        picture = None if self.image is None else Picture.of(codec.load_picture(self.image))
        return CaptionRequest(**vars(request), picture=picture)


@dataclass(frozen=True)
class Picture:
    """A hashable image, so that it can be a static argument of compiled functions.

    Attributes:
      shape: [H, W, C].
      pixels: bytes of the float32 values in model space.
    """

    shape: tuple[int, ...]
    pixels: bytes

    @classmethod
    def of(cls, image: np.ndarray) -> Picture:
        """Wrap an image [H, W, C]."""
        return cls(image.shape, np.ascontiguousarray(image, np.float32).tobytes())

    @property
    def image(self) -> np.ndarray:
        """The image, float32 [H, W, C]."""
        return np.frombuffer(self.pixels, np.float32).reshape(self.shape)


@dataclass(frozen=True)
class CaptionRequest(Request):
    """A request for captions of a picture.

    Attributes:
      picture: picture in model space; None if none was given.
    """

    picture: Picture | None = None


@checks.frozen
class Captioner(Autoregressive):
    """A captioner, trained on next-token prediction; ``loss`` is in nats per token.

    The data have an ``image`` next to their ``tokens``. Parameters of the encoder are under
    "encoder"; those of the net, which attends to the image in every block, under "decoder".

    Attributes:
      net: ``Transformer`` that writes the caption.
      sampler: decoding options, with the picture to describe.
      encoder: network that reads the images.
    """

    net: Component = Transformer(layers=2, heads=4, width=128, context=64)
    sampler: CaptionDecoding = CaptionDecoding(steps=32)
    encoder: Component = ImageEncoder()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.net, Attends):
            raise UserError(
                f"net must be a Transformer in a captioner, got a {type(self.net).__name__}", "net"
            )

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        self._check(spec)
        if spec.image is None:
            raise UserError("a captioner needs images, but these data have only tokens")
        if spec.packed:
            raise UserError(
                "a captioner needs one caption per row, about its image, but these data are packed"
            )
        if self.sampler.image is None:
            raise UserError(
                "family.sampler.image is needed for samples: a caption is about a picture",
                "family.sampler.image",
            )
        assert spec.vocabulary is not None
        one, two = jax.random.split(key)
        encoder, decoder = (
            self.encoder.module(spec.image),
            self._choose_net(True).module(spec.vocabulary),
        )
        features, params = encoder.init_with_output(one, example["image"], train=False)
        decoded = decoder.init(two, example["tokens"][:, :1], memory=Memory(features))
        return {
            "encoder": params["params"],
            "decoder": decoded["params"],
        }, self._make_constants(spec) | {
            # Keeps the shape of images.
            "blank": jnp.zeros(spec.image)
        }

    def list_read(self, batch: Batch) -> tuple[str, ...]:
        return ("image",)

    def reader(self, params: Params, request: Request) -> TokenReader:
        request.check(self._count_tokens(params), self.net.context, None)
        return self.read_images(params, jnp.asarray(_get_picture(request).image)[None])

    def describe_inputs(self, state: State, options: Decoding | Request) -> Inputs:
        """Describe the input: a picture in model space."""
        return {"image": (state.variables["blank"].shape, np.float32)}

    def make_reader(self, state: State, request: Request) -> TokenReader:
        images = find_input(state, "image")
        if images is None:
            return self.reader(state.params, request)
        return self.read_images(state.params, images)

    def read_images(self, params: Params, images: jax.Array) -> TokenReader:
        """Return the model as a reader of rows of tokens about images [B, H, W, C], or about one
        [1, H, W, C].
        """
        return self._make_reader(
            params, self._encode_memory(params["encoder"], {"image": images}, None)
        )

    def _encode_memory(
        self, params: Params, batch: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        image = batch["image"]
        module, dtype = self.encoder.module(image.shape[1:]), jax.tree.leaves(params)[0].dtype
        features = module.apply({"params": params}, image.astype(dtype), train=key is not None)
        return features, jnp.ones(features.shape[:2], jnp.int32)


def caption_images(
    family: Captioner,
    state: State,
    images: jax.Array,
    start: int,
    end: int,
    options: TokenSampler | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Write a caption for each of images [B, H, W, C] in model space: int32 [B, steps], padded with
    ``end``.

    Args:
      start: token that starts a caption.
      end: token that ends a caption.
      options: decoding options; by default greedy, up to the whole context.
      key: random key.

    Raises:
      UserError: images have another shape than in training, or ``options.steps`` exceeds the
          context.
    """
    known = state.variables["blank"].shape
    if images.shape[1:] != known:
        raise UserError(
            f"images must have shape {list(known)}, got {list(images.shape[1:])}", "images"
        )
    options = options or TokenSampler(family.net.context, temperature=0.0)
    key = jax.random.key(0) if key is None else key
    starts = jnp.full((len(images), 1), start, jnp.int32)
    reader = family.read_images(state.params, images)
    cache = reader.new_cache(len(images), options.steps)
    prompts = Prompts(starts, jnp.ones(starts.shape, bool))
    return generate(reader.model, cache, prompts, options, key, ((end,),), end).tokens


def _get_picture(request: Request) -> Picture:
    """Return the picture of a request, which must have one."""
    picture = request.picture if isinstance(request, CaptionRequest) else None
    if picture is None:
        raise UserError("sampler.image is needed: name the file of the picture", "sampler.image")
    return picture
