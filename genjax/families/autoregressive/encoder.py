"""The encoder of a source beside a decoder."""

from __future__ import annotations

import dataclasses

from genjax.checks import Component


def make_encoder(net: Component, vocabulary: int) -> Component:
    """Build the encoder of a source for the decoder ``net``: like it, but without a head, experts
    and later tokens.
    """
    biases = tuple(bias for bias in net.biases if bias != "head")
    encoder = dataclasses.replace(
        net, causal=False, cross_attention=False, tied=True, biases=biases, ahead=1
    )
    return dataclasses.replace(encoder, head_transform=False, experts=None).module(vocabulary)
