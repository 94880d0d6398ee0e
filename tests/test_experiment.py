"""Experiments as text: every component comes back equal, and whatever is wrong is refused by
name.
"""

import dataclasses
import importlib
import inspect
import json
import pickle
import pkgutil
import sys

import flax.linen as nn
import numpy as np
import pytest

import genjax
from genjax import config_files, optim, parallel, schedules
from genjax import start_from as start
from genjax.config_files import (
    check_resumable,
    differences,
    dumps,
    find_config,
    load_config,
    loads,
    to_json,
)
from genjax.data import codecs
from genjax.data.audio.abc import AbcTunes
from genjax.data.audio.augment import Transposition
from genjax.data.audio.mel import MelCodec
from genjax.data.audio.music import ChoraleCodec
from genjax.data.audio.signals import SignalCodec
from genjax.data.audio.spectrograms import MelSpectrograms
from genjax.data.audio.voices import VoiceCodec
from genjax.data.chat.jinja import JinjaTemplate
from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.dataset import Spec
from genjax.data.design.attributed import Attributed
from genjax.data.design.attributes import Attribute, Attributes, HideAttributes
from genjax.data.design.measures import brightness
from genjax.data.design.sketches import Sketched
from genjax.data.images.augment import Color, Crop, Cutout, Flip, Mixup, Rotate
from genjax.data.order.curriculum import ByDifficulty, Lengths, NoiseLevels, Resolutions
from genjax.data.order.difficulty import ByFunction, ReferenceLoss, TextLength
from genjax.data.order.pacing import LinearPacing, RootPacing, StepPacing
from genjax.data.reasoning.problems import ReasoningGym, Verifier
from genjax.data.simulation.codec import FieldCodec, TrajectoryCodec
from genjax.data.simulation.sources import Trajectories, TrajectoryFiles
from genjax.data.simulation.systems import DoublePendulum, GrayScott, Lorenz63
from genjax.data.sources import (
    TFDS,
    Arithmetic,
    CaptionedShapes,
    Chorales,
    ChoraleVoices,
    Digits,
    EmbeddedTable,
    Flowers,
    ImageFolder,
    Instructions,
    LabelledAnswers,
    LabelledTexts,
    MidiFolder,
    Mixture,
    MovingDigits,
    Points,
    Preferences,
    PreparedImages,
    PreparedTexts,
    PythonDocs,
    RandomWalks,
    RulePreferences,
    RuleResponses,
    SentencePairs,
    ShapeCaptions,
    SpokenDigits,
    Stacked,
    Synthetic,
    Table,
    TextFiles,
    TextPairs,
    TextTables,
    TFDSText,
    Tones,
    Tunes,
    UCITable,
    VideoFolder,
    WavFolder,
)
from genjax.data.sources.arithmetic import correct
from genjax.data.sources.pairs import PairCodec
from genjax.data.sources.random_walks import optimality
from genjax.data.tables.codec import CategoryColumn, NumberColumn, TableCodec
from genjax.data.tables.dates import DateColumn
from genjax.data.tables.pairs import Customers, RelatedTables
from genjax.data.tables.quantiles import QuantileColumn
from genjax.data.tables.related import RelatedCodec
from genjax.data.text.augment import Substitution, TokenDropout, TokenSwaps
from genjax.data.text.captions import CaptionCodec
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.hashed import HashedText
from genjax.data.text.layouts import Blocks, Documents, Packed, RandomWindows
from genjax.data.text.prefixes import Prefixed
from genjax.data.text.splits import ByCharacters, ByDocuments, ByFiles
from genjax.data.text.subwords import Subwords
from genjax.data.video.codec import VideoCodec
from genjax.errors import UserError
from genjax.evaluation.audio.tones import ToneQuality
from genjax.evaluation.audio.waveform import WaveformQuality
from genjax.evaluation.captions.accuracy import CaptionAccuracy
from genjax.evaluation.captions.agreement import PromptAgreement
from genjax.evaluation.images.agreement import LabelAgreement
from genjax.evaluation.images.attributes import AttributeAgreement
from genjax.evaluation.images.bias import Bias
from genjax.evaluation.images.diversity import Diversity
from genjax.evaluation.images.guidance import GuidanceCurve
from genjax.evaluation.images.inpainting import Inpainting
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.modes import MixtureModes, StackedModes
from genjax.evaluation.images.neighbours import NearestNeighbours
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.evaluation.images.reward_of_images import RewardOfImages
from genjax.evaluation.images.sheet import Sheet
from genjax.evaluation.images.sketches import SketchAgreement
from genjax.evaluation.images.steps_curve import StepsCurve
from genjax.evaluation.likelihood.classification import Calibration, Confusions
from genjax.evaluation.likelihood.codebook import CodebookUsage
from genjax.evaluation.likelihood.flow import FlowLikelihood
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.evaluation.likelihood.histogram import HistogramKL
from genjax.evaluation.likelihood.importance import ImportanceBound
from genjax.evaluation.likelihood.latents import ActiveUnits, LatentMap
from genjax.evaluation.likelihood.transport import TransportDistance
from genjax.evaluation.music.memorisation import MusicMemorisation
from genjax.evaluation.music.voice_leading import VoiceLeading
from genjax.evaluation.music.voice_likelihood import VoiceLikelihood
from genjax.evaluation.simulation.ensembles import EnsembleCalibration
from genjax.evaluation.simulation.fidelity import RolloutFidelity
from genjax.evaluation.simulation.lyapunov import Lyapunov
from genjax.evaluation.simulation.neighbours import NeighbourDivergence
from genjax.evaluation.tables.boosting import BoostedUtility
from genjax.evaluation.tables.correlations import TabularCorrelations
from genjax.evaluation.tables.marginals import TabularMarginals
from genjax.evaluation.tables.privacy import TabularPrivacy
from genjax.evaluation.tables.relations import TabularRelations
from genjax.evaluation.tables.utility import TrainOnSynthetic
from genjax.evaluation.text.bias import Probe, TextBias
from genjax.evaluation.text.diversity import TextDiversity
from genjax.evaluation.text.domains import DomainPerplexity
from genjax.evaluation.text.frames import FrameLikelihood
from genjax.evaluation.text.memorisation import TextMemorisation
from genjax.evaluation.text.policy_kl import PolicyKL
from genjax.evaluation.text.positions import LossByPosition
from genjax.evaluation.text.preference_quality import PreferenceQuality
from genjax.evaluation.text.pseudo_perplexity import PseudoPerplexity
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.evaluation.text.sentence_neighbours import SentenceNeighbours
from genjax.evaluation.text.translation import TranslationQuality
from genjax.evaluation.video.clip_motion import ClipMotion
from genjax.evaluation.video.continued import ClipContinuation
from genjax.evaluation.video.next_frame import NextFrameLikelihood
from genjax.experiment import Every, Experiment, Keep
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.captioner import CaptionDecoding, Captioner
from genjax.families.autoregressive.code_prior import CodePrior, CodeSampler
from genjax.families.autoregressive.harmonising import Harmonising
from genjax.families.autoregressive.next_scale import NextScale
from genjax.families.autoregressive.next_state import Continuation, NextState
from genjax.families.autoregressive.request import Decoding
from genjax.families.classifier import Classifier
from genjax.families.diffusion.augment import NonLeaking
from genjax.families.diffusion.bound import Learned
from genjax.families.diffusion.control import ControlNet, SketchDiffusion, SketchSampling
from genjax.families.diffusion.couplings import NormalNoise, Ring
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.diffusion.flow_map import FlowMap, Jumps
from genjax.families.diffusion.forecast import Forecast, Rollout
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.families.diffusion.rows import RowSampling
from genjax.families.diffusion.tabular import TabularDiffusion
from genjax.families.gan.augment import DiscriminatorAugment
from genjax.families.gan.gan import GAN, LatentSampler
from genjax.families.image_rewards import mirror_symmetry
from genjax.families.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Tabular
from genjax.families.masked_diffusion import MaskedDiffusion
from genjax.families.masked_lm import Filling, MaskedLM
from genjax.families.masking import Masking
from genjax.families.multiscale import MultiscaleCodebook
from genjax.families.quantisers import FSQ, Codebook
from genjax.families.unmasking import Unmasking
from genjax.families.vae import VAE, PriorSampler, UpperLatents
from genjax.families.vdvae import VDVAE
from genjax.families.vqvae import VQVAE
from genjax.nets.bigram import Bigram
from genjax.nets.conv.conv import ConvCoder
from genjax.nets.conv.resnet import ResNet
from genjax.nets.conv.spatial import SpatialCoder
from genjax.nets.conv.unet import UNet
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator, MaxoutBackbone, MLPGenerator
from genjax.nets.gan.progressive import Progressive
from genjax.nets.gan.r3gan import R3Discriminator, R3Generator
from genjax.nets.gan.resnet import ResNetDiscriminator, ResNetGenerator
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.nets.ngram_mlp import NgramMLP
from genjax.nets.residual_mlp import ResidualMLP
from genjax.nets.transformer.dit import DiT
from genjax.nets.transformer.experts import Experts
from genjax.nets.transformer.image_encoder import ImageEncoder, Patches
from genjax.nets.transformer.positions import Rotary
from genjax.nets.transformer.space_time import SpaceTime
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import LayerKind, MuP, Transformer
from genjax.parallel import Devices, ShardRule
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.ddpo import DDPO
from genjax.posttrain.distillation import Distillation, OnPolicyDistillation
from genjax.posttrain.dpo import DPO
from genjax.posttrain.grpo import GRPO
from genjax.posttrain.kto import KTO
from genjax.posttrain.labelled_kto import LabelledKTO
from genjax.posttrain.lora import LoRA
from genjax.posttrain.online_dpo import OnlineDPO
from genjax.posttrain.orpo import ORPO
from genjax.posttrain.ppo import PPO
from genjax.posttrain.reward import RewardModel
from genjax.posttrain.rewarded_diffusion import RewardedDiffusion
from genjax.posttrain.rloo import RLOO
from genjax.posttrain.simpo import SimPO
from genjax.samplers import DDIM, DDPM, Adaptive, Ancestral, DPMSolver, Euler, Heun
from genjax.samplers.diffusion import processes
from genjax.samplers.tokens.beam import BeamSearch
from genjax.samplers.tokens.decoding import TokenSampler
from genjax.schedules import Constant, Cosine, Cyclical, Linear, Piecewise, Rsqrt, WarmUp
from genjax.serial import stored as stored_files
from genjax.serial import trust
from genjax.serial.stored import from_json
from genjax.serial.trust import Untrusted
from genjax.start_from import StartFrom
from tests import toy

# No field is left at its default where another value can be given, so that a lost one shows.
COMMON = {
    "learning_rate": WarmUp(7, Cosine(0.3, 0.1, 9)),
    "clip": 2.5,
    "weight_decay": 0.125,
    "decay": ("kernel", "a.*b"),
    "freeze": ("encoder/.*",),
    "accumulate": 4,
    "rates": (("kernel", 0.25), ("layers", (2.0, 0.5))),
    "unfreeze": (("embedding", 9), ("layers", (4, 2))),
}
COMPONENTS = [
    Constant(0.1 + 0.2),
    Linear(1e-300, -1.5, 12),
    Cosine(0.5, 0.25, 3),
    Rsqrt(0.7, 11),
    Piecewise((1.0, 0.5, 0.1), (3, 8)),
    WarmUp(5, WarmUp(6, Linear())),
    Cyclical(0.1, 0.9, 7, 0.25, 3),
    optim.SGD(**COMMON, momentum=0.8, nesterov=True),
    optim.Adam(**COMMON, b1=0.5, b2=0.95, eps=1e-6),
    optim.AdamW(**COMMON, b1=0.5),
    optim.Lion(**COMMON, b1=0.8, b2=0.9),
    optim.Adafactor(
        **COMMON,
        min_dim_size_to_factor=32,
        decay_rate=0.7,
        clipping_threshold=None,
        multiply_by_parameter_scale=False,
    ),
    optim.Muon(**COMMON, beta=0.9, b1=0.8, b2=0.99, adam=("head",), stacked=(), adam_rate=0.5),
    Digits(),
    ImageFolder("pictures", (32, 48), 1, 0.25, "skip", 0.5),
    Points("two_moons", 500, 50, 3, 0.2, True),
    Tones(500, 50, 3, 8_000, 100),
    WavFolder("sounds", 8_000, 100, 1, "(.)_", 0.25, 0.5, True, True, True),
    SpokenDigits("/sets/audio", 100, "speaker"),
    MelSpectrograms(Tones(50), 16, 20, 128, 32, 50.0, 8),
    HashedText(8),
    CaptionedShapes(500, 50, 3, 12, HashedText(8)),
    Flowers(500, 50, 3, 16),
    TFDS("cifar10:3.0.2", "/sets", 100, (28, 30), 0.5, False),
    Characters("abc", True, "token"),
    Bytes(True),
    Words(("the", "cat"), 2, False),
    Subwords(
        "unigram",
        999,
        ("<s>", "</s>", "<p>"),
        "<s>",
        "</s>",
        "<p>",
        None,
        "token",
        "there.json",
        "{}",
        1024,
    ),
    PairCodec(Words(("der",)), Bytes(True)),
    ChoraleCodec(30, 90, 4, 120.0),
    VoiceCodec(40, 80, True, 2, 60.0),
    AbcTunes("abc", True, "token"),
    RandomWindows(7),
    Blocks(8),
    Documents(9, "drop"),
    Packed(10, "drop"),
    Prefixed(Packed(10, "drop"), "\n", 3),
    ByCharacters(0.2, 0.3),
    ByDocuments(0.2, 0.3, 4),
    ByFiles("t*", "v*"),
    TextFiles("/texts", "*.gz", "lines", "latin-1", Bytes(), Packed(5), ByDocuments(), "/cache"),
    TextTables(
        "/texts", "*.csv", "body", "latin-1", Bytes(), Packed(5), ByDocuments(), "/cache", "kind"
    ),
    TFDSText("imdb", "/sets", "review", Bytes(), Packed(5), ByDocuments(), "/cache"),
    PythonDocs(Bytes(), Packed(5), ByCharacters(), "/cache"),
    SentencePairs(
        "/pairs",
        "fr",
        "de",
        "a",
        "b",
        "c",
        Bytes(),
        Words(),
        5,
        6,
        "drop",
        "latin-1",
        "/cache",
        True,
    ),
    Chorales("/music", "16th", Packed(5), 100.0),
    ChoraleVoices("/music", VoiceCodec(chords=True), Packed(5)),
    MidiFolder("/midi", ChoraleCodec(), Packed(5), 0.2, True),
    Tunes("/tunes", AbcTunes(), Packed(5), ByDocuments(0.3), "/cache"),
    TokenDropout(3, 0.25, (1, 2)),
    Transposition(3, 4, 5, 9, 10),
    TokenSwaps(0.25, (1, 2)),
    Substitution((((1, 2), (3,)),), 0.25),
    Lengths((2, 4), (3,)),
    MLPCoder((64, 32, 8), "gelu"),
    ConvCoder((8, 16), 6, 32, "tanh"),
    MLPBackbone((32, 8), "silu", 0.25),
    ResNet((8, 16), (2, 0), "gelu", "group", 4, 8),
    Classifier(MLPBackbone((8,)), 0.1, 0.2, 5),
    Bernoulli(True),
    Gaussian("predicted", 0.25),
    DiscretizedLogistic("fixed", 0.25, 17),
    PriorSampler(0.7, True, 3),
    UpperLatents(3, (4, 5), "silu"),
    VAE(
        3,
        ConvCoder((8,)),
        Gaussian("shared"),
        Cyclical(0.1, 0.9, 7, 0.25, 3),
        PriorSampler(0.5),
        importance_samples=4,
        chunk=2,
        conditional=True,
        upper=(UpperLatents(2), UpperLatents(1)),
    ),
    SpatialCoder((8, 16), 3, 6, "tanh"),
    VQVAE(9, 5, SpatialCoder((8,)), Bernoulli(), 0.5, 0.9, 0.2),
    VQVAE(coder=SpatialCoder((8,)), quantiser=FSQ((5, 4))),
    VQVAE(quantiser=Codebook(9, 5, 0.5, 0.9, 0.2)),
    Codebook(9, 5, 0.5, 0.9, 0.2),
    FSQ((7, 5, 5)),
    MultiscaleCodebook((1, 3), Codebook(9, 5), 0.3),
    VDVAE(
        12,
        3,
        2,
        (0, 1, 2),
        4,
        "silu",
        Gaussian("shared"),
        Cyclical(0.1, 0.9, 7, 0.25, 3),
        PriorSampler(0.5),
        3,
    ),
    ShardRule("kernel", ("fsdp", None)),
    Devices(4, "sharded", 2, 2, (ShardRule("w", (None, "tensor")),), True, "host:12", 2, 1),
    Reconstructions(3),
    Interpolations(2, 5),
    ImportanceBound(7, 9, 3, while_training=True),
    ActiveUnits(0.1, 0.2),
    LatentMap(50, 4),
    GeneralisationGap(20),
    NearestNeighbours(9, 3, 2, "runs/eyes", 50, while_training=False),
    Calibration(10, while_training=False),
    Confusions(4, while_training=False),
    CodebookUsage(while_training=False),
    SampleQuality("runs/eyes", 900, "test", 800, 3, 700, 60),
    Memorisation("inception", 90, 80, 70, 0.01, 4, while_training=False),
    Diversity("runs/eyes", 90, "test", 80, 70),
    Bias("runs/eyes", 300, 0.9, "labels", 200),
    Sheet(90, 20, 3, 2, "runs/eyes", "runs/others", 80),
    MixtureModes(((0.5, -1.0), (2.0, 3.0)), 0.25, 90, 2.0),
    StackedModes("runs/eyes", 90),
    GameGauges(while_training=False),
    Stacked(Digits(), 50, 20, 3),
    Resolutions((2, 4), (3,), 1),
    DiscriminatorAugment(("flip", "color"), 0.5, 0.3, 70),
    LabelAgreement("runs/eyes", 500, while_training=False),
    Attribute("light", ("dark", "bright"), brightness, (0.5,), (1, 2)),
    Attributes((Attribute("shape", ("circle", "cross")),)),
    HideAttributes(Attributes((Attribute("shape", ("circle", "cross")),)), 0.5),
    Attributed(Digits(), Attributes((Attribute("light", ("dark", "bright"), brightness, (0.5,)),))),
    AttributeAgreement("runs/eyes", 500, 9, while_training=False),
    Sketched(Digits(), 0.5),
    SketchSampling(guidance_scale=2.0, sketch="sketch.png", follow=False),
    SketchDiffusion(net=DiT(2, 16, 2, 2), copied=1),
    ControlNet("runs/other", 1, SketchSampling()),
    SketchAgreement(90, 2, 0.5, 3, while_training=False),
    WaveformQuality("runs/eyes", 500, while_training=False),
    GuidanceCurve("runs/eyes", (0.0, 1.5), 200),
    StepsCurve((2, 8), "runs/eyes", 600, "test", 700, 300),
    FlowLikelihood(100, None, 1e-3, 1e-5, 20),
    Inpainting(4, 2, "centre"),
    LossByPosition(50),
    FrameLikelihood(while_training=False),
    VoiceLikelihood(while_training=False),
    VoiceLeading(3, while_training=False),
    MusicMemorisation(3, while_training=False),
    DomainPerplexity(50, 3, 0.9),
    TextDiversity(30, 3, "tokens", while_training=False),
    TextMemorisation(30, 0.1, 40, 8, 9, 0.2, while_training=False),
    Probe(
        "doctor",
        ("{} is a doctor", "{} was a doctor"),
        (("he", "she"), ("Jo", "Ann"), ("a man", "a woman")),
    ),
    TextBias((Probe("a", ("{} is",) * 3, (("he", "she"),) * 2),), "sentence", 0.1, 0.9, 300),
    TranslationQuality(70, 20),
    TransportDistance((Heun(3), Adaptive(1e-3)), 50, "train"),
    HistogramKL((2, 3), 20, 2.0, 90, "train", while_training=True),
    processes.VPLinear(0.2, 10.0, 1e-2),
    processes.VPCosine(12.0, -1.0),
    processes.EDM(0.01, 50.0, 5.0, -1.0, 1.1),
    processes.Straight(1e-2),
    Learned(32, -8.0, 4.0),
    NormalNoise(),
    Ring(4.0, 0.5),
    NonLeaking(0.2, 3),
    Euler(7),
    Heun(8),
    DPMSolver(9),
    DDIM(10, 0.5),
    DDPM(11, "large"),
    Ancestral(12, 0.5),
    Adaptive(1e-3, 1e-4, 500),
    Denoising(Heun(5), 2.0, 3, True, "a cross"),
    UNet((8, 16), 1, (4,), 8, 0.1),
    DiT(4, 16, 2, 2, 3),
    ResidualMLP(16, 2, 32),
    Diffusion(
        DiT(4, 16, 2, 2),
        processes.EDM(),
        "x0",
        "min_snr",
        4.0,
        0.5,
        32,
        50.0,
        (2, 3),
        True,
        0.2,
        HashedText(8),
        NormalNoise(),
        "optimal",
        NonLeaking(0.1),
        Denoising(Euler(3), 1.5),
    ),
    LatentDiffusion("runs/there", Diffusion(width=16)),
    Jumps(4, True, "three"),
    FlowMap(
        DiT(4, 16, 2, 2),
        "eulerian",
        False,
        "sample",
        False,
        0.25,
        0.5,
        1.0,
        2.0,
        "runs/there",
        32,
        5.0,
        True,
        0.2,
        Jumps(2),
    ),
    CodeSampler(0.7, 5, 0.9, 2.0, 3),
    CodePrior("runs/there", Transformer(width=48), True, 0.2, CodeSampler(0.7)),
    NextScale("runs/there", Transformer(width=48), True, 0.2, CodeSampler(0.7)),
    Autoregressive(Transformer(width=48), 512, 1e-4, Decoding(9, prompt="a"), True, 0.3),
    Decoding(9, 1.2, 0.7, 5, 0.9, 0.1, "", (), None, ("\n",), 1, 0.6, None, 4, (1, 2), (3,), (0,)),
    Decoding(9, prompts=("a", "b"), beams=3, length_penalty=0.0),
    Harmonising(9, melody="tune.mid", given=(1, -1)),
    Decoding(9, draft="runs/small", draft_tokens=2),
    Decoding(9, self_draft=True),
    Bigram(64),
    NgramMLP(2, 3, 4, 64),
    TokenSampler(9, 1.2, 0.7, 5, 0.9, 0.1),
    BeamSearch(9, 3, 0.7),
    Rotary(500_000.0, 8.0, 8192, 2.0, 5.0, 0.5, yarn=True, whole_pairs=False, gain=1.2),
    Rotary(trained=64, short=(1.0, 2.5), long=(3.0, 4.0)),
    LayerKind(7, None),
    MuP(64, 16),
    Experts(6, 3, 20, False, 10, True, (1,), 0.02, 0.002),
    Transformer(ahead=4),
    Transformer(
        positions="rotary",
        layer_kinds=(LayerKind(7), LayerKind(None, Rotary(1e6))),
        embedding_scale=2.0,
        norm_last=True,
        parallel=True,
        qk_norm=True,
        qk_norm_whole=True,
        score_width=6,
    ),
    Transformer(
        layers=3,
        heads=4,
        width=32,
        context=48,
        kv_heads=2,
        head_width=6,
        hidden=40,
        positions="rotary",
        rotary=Rotary(1000.0, 2.0),
        periods=(4, 16),
        norm="rms",
        norm_first=False,
        norm_embeddings=True,
        norm_epsilon=1e-6,
        activation="swiglu",
        biases=("head",),
        qk_norm=True,
        causal=False,
        window=7,
        cross_attention=True,
        attention_softcap=50.0,
        logit_softcap=30.0,
        tied=False,
        head_transform=True,
        token_types=2,
        dropout=0.1,
        attention_dropout=0.2,
        attention="blocked",
        scan_layers=True,
        remat="products",
        init_std=0.05,
        mup=MuP(16, 4),
        experts=Experts(4, 1),
    ),
    TokenBackbone(Transformer(1, 1, 8, 9), "last"),
    Masking("spans", 0.2, 0.7, 0.2, 0.5, 4),
    Filling("a [MASK]", 5, 0.5, ()),
    MaskedLM(Transformer(1, 1, 8, 9, causal=False), Masking("words"), 7, Filling(length=3)),
    Unmasking("a [MASK 3]", 5, 0.5, (), 7, "margin", "cosine", 4, 1.5, "three"),
    MaskedDiffusion(
        Transformer(1, 1, 8, 9, causal=False), "counts", 3, True, 0.2, 7, Unmasking(steps=3)
    ),
    PseudoPerplexity(9, while_training=True),
    SentenceNeighbours(9, while_training=False),
    LabelledTexts(TextTables("/tables", domain="kind", layout=Documents(5)), 70),
    StartFrom("runs/other", (("^", "backbone/"),), True, ("positions",), ("stats",)),
    ChatTemplate((("user", "Q:", "\n"), ("bot", "A:", "\n"), ("asker", "", "")), "asker", "bot"),
    ChatCodec(Bytes(True), ChatTemplate(user="system")),
    JinjaTemplate("{{ messages }}", (("bos_token", "<s>"),), ("</s>",), "2026-01-31", "a.jinja"),
    Instructions(
        "/chats",
        "a.jsonl",
        ChatTemplate(user="system"),
        "|",
        Bytes(True),
        5,
        True,
        "cut",
        ByDocuments(0.2),
        "/cache",
    ),
    TextPairs(
        "/pairs",
        "fr",
        "de",
        "a",
        "b",
        "c",
        "{source}?",
        ChatTemplate(user="system"),
        Bytes(True),
        5,
        True,
        "cut",
        "latin-1",
        "/cache",
    ),
    Preferences(
        "/pairs.json",
        ChatTemplate(user="system"),
        "|",
        Bytes(True),
        5,
        "drop",
        "drop",
        ByDocuments(0.2),
        "/cache",
    ),
    LabelledAnswers(
        "/answers.jsonl",
        ChatTemplate(user="system"),
        "|",
        Bytes(True),
        5,
        "drop",
        ByDocuments(0.2),
        "/cache",
    ),
    RuleResponses(
        50, 20, 3, "chosen", False, ChatTemplate(user="system"), Bytes(True), 96, "/cache"
    ),
    RulePreferences(50, 20, 3, ChatTemplate(user="system"), Bytes(True), 96, "/cache"),
    PreferenceQuality(7, while_training=False),
    RewardModel(TokenBackbone(Transformer(1, 1, 8, 9), "last"), 0.1, 0.2, 0.9),
    PPO(
        "runs/other",
        optimality,
        None,
        Adapters(3),
        9,
        7,
        3,
        2,
        0.9,
        0.8,
        0.1,
        0.3,
        0.5,
        0.01,
        0.2,
        6.0,
        500,
        False,
        "separate",
        1.0,
        9.0,
        Bytes(True),
        sampler=Decoding(5),
    ),
    PPO("runs/other", None, "runs/judge"),
    DPO("runs/other", 0.3, "sigmoid", True, 0.1, adapters=Adapters(2), sampler=Decoding(5)),
    KTO("runs/other", 0.3, 1.5, 0.5, adapters=Adapters(2)),
    LabelledKTO("runs/other", 0.3, 1.5, 0.5, adapters=Adapters(2)),
    ORPO("runs/other", 0.3, sampler=Decoding(5)),
    SimPO("runs/other", 1.5, 0.3),
    RLOO("runs/other", correct, group=3, kl=0.1, clip=0.3),
    OnlineDPO("runs/other", correct, beta=0.3, minibatches=2),
    Distillation("runs/other", Autoregressive(Bigram(64)), 0.3, 2.0, 0.5),
    OnPolicyDistillation(
        "runs/other", Autoregressive(Bigram(64)), 0.3, 2.0, 0.5, 0.25, 3, 9, Bytes(True)
    ),
    DDPO("runs/other", mirror_symmetry, 3, 9, 5, 0.3, 0.1),
    ReasoningGym("basic_arithmetic", (("max_digits", 1),), 30, 9, 3, "pairs", 0.0, Bytes(True), 99),
    Verifier(ReasoningGym(wrong=0.2)),
    PolicyKL(9, 7, while_training=False),
    RewardedDiffusion(
        "runs/other",
        mirror_symmetry,
        "weighted",
        3,
        9,
        5,
        0.2,
        500.0,
        0.5,
        sampler=Denoising(Euler(3)),
    ),
    RewardOfImages(mirror_symmetry, "symmetry", 50, while_training=False),
    Arithmetic(1, "*-", 50, 20, 0.25, 3),
    GRPO(
        "runs/other",
        correct,
        Adapters(2),
        4,
        9,
        7,
        3,
        2,
        1.0,
        Bytes(True),
        0.1,
        0.3,
        0.5,
        False,
        False,
        ".",
        sampler=Decoding(5),
    ),
    RandomWalks(12, 0.2, 50, 20, 8, 3),
    RewardOfSamples(optimality, "optimality", 9, 0.5, 7, while_training=False),
    ShapeCaptions(50, 20, 3, 12, Words(), 9, (3, 4)),
    CaptionCodec(Words(("a",)), codecs.ImageCodec(8, 9, 3, 17)),
    Captioner(
        Transformer(1, 1, 8, 9),
        5,
        0.1,
        CaptionDecoding(5, image="a.png"),
        True,
        0.3,
        ImageEncoder(Patches(2), 8, 1, 2, 3),
    ),
    ImageEncoder(Patches(2), 8, 1, 2, 3),
    Patches(2),
    CaptionDecoding(5, image="a.png"),
    CaptionAccuracy(9, 3, while_training=False),
    PromptAgreement(9, 3, while_training=False),
    Adapters(3, 6.0, ("query",), ("norm",), ("blocks",)),
    ByDifficulty(ByFunction(correct), LinearPacing(0.2, 30), "hard_first"),
    NoiseLevels((-9.0, 1.0), (-8.0, 7.0), 50),
    ByFunction(correct),
    TextLength(),
    ReferenceLoss("runs/vae_digits"),
    StepPacing(0.2, 30, 3),
    LinearPacing(0.2, 30),
    RootPacing(0.2, 30),
    Mixture(
        (Digits(), Points()), (schedules.Constant(1.0), schedules.Linear(0.0, 2.0, 5)), 5, Bytes()
    ),
    Table("a.csv", "y", ("x",), ("c",), ("z",), ("?",), 0.3, 5, 4, "latin-1", "raw"),
    EmbeddedTable("iris", 0.5, 3, 4),
    NumberColumn("x", (0.5, 0.5), (1.0, 2.0), (0.1, 0.2), 2, True),
    QuantileColumn("x", (0.0, 0.5, 1.0), (1.0, 2.0, 5.0), 0.1, 1.1, 0.01, 2, True),
    RowSampling(50, "age>=30", tries=5),
    TabularDiffusion(steps=50, conditional=False),
    UCITable("abalone", constraints=("Rings in [1, 29]",)),
    BoostedUtility(0.05, depth=3),
    CategoryColumn("c", ("a", "b"), True),
    DateColumn("when", " ", True, 3, None),
    TableCodec(
        (NumberColumn("x", (1.0,), (0.0,), (1.0,)),),
        (CategoryColumn("c", ("a", "b")),),
        ("c", "x"),
        "c",
    ),
    RelatedTables("a.csv", "b.csv", "id", 3, "orders", "y", test_fraction=0.3, seed=5),
    Customers(99, 3, 0.5, 7),
    RelatedCodec(
        (NumberColumn("x 1", (1.0,), (0.0,), (1.0,), missing=True),),
        (CategoryColumn("n", ("0", "1")),),
        ("n", "x 1"),
        key="id",
        count="n",
        child_columns=("x",),
        most=1,
        lacking=("x",),
    ),
    TabularRelations(9, while_training=False),
    Tabular(0.2),
    TabularMarginals(9, while_training=False),
    TabularCorrelations(9, while_training=False),
    TabularPrivacy(9, 99, while_training=False),
    TrainOnSynthetic(("random_forest",), 3, 99, while_training=False),
    Synthetic("made", 0.25),
    PreparedTexts(
        "words", "body", Synthetic("made", 0.25), Characters("ab"), Documents(8), "cache"
    ),
    PreparedImages("faces", "picture", "label", 1, Synthetic("made", 0.25)),
    LoRA("runs/other", Adapters(3), sampler=Decoding(5)),
    MLPGenerator((8, 4), "tanh", True),
    MaxoutBackbone((8, 4), 3),
    ConvGenerator((8, 4), 6, False, 3),
    ConvBackbone((8, 4), 6, "silu", True, 0.25),
    ResNetGenerator((8, 4), (28,)),
    R3Generator((8, 4), 1, 3, 4),
    R3Discriminator((4, 8), 3, 1, 2),
    ResNetDiscriminator((8, 4), 1, (14,)),
    Progressive((8, 4)),
    LatentSampler(0.7, 3),
    GAN(
        3,
        ConvGenerator((8,)),
        ConvBackbone((4,)),
        "wasserstein",
        gradient_penalty=10.0,
        r1=0.5,
        r2=0.25,
        penalty_every=4,
        spectral_norm="both",
        minibatch_std=True,
        conditional=True,
        init_std=0.02,
        temperature=0.5,
        sampler=LatentSampler(0.5),
    ),
    optim.Players(optim.SGD(Constant(0.1)), optim.Adam(b1=0.0), 5),
    codecs.ImageCodec(8, 9, 3, 17),
    codecs.PointsCodec(2, (0.5, -1.0), (2.0, 3.0)),
    SignalCodec(8_000, 100, 2),
    Lorenz63(9.0, 27.0, 2.5),
    DoublePendulum(9.8, 2.0, 3.0, 1.0),
    GrayScott(0.03, 0.06, 0.1, 16),
    Trajectories(DoublePendulum(), 0.1, 3, 50, 20, 10, 7),
    TrajectoryFiles("walks", 0.1, 3, 0.2),
    TrajectoryCodec(("x", "y"), 0.1, (0.5, -1.0), (2.0, 3.0), Lorenz63()),
    FieldCodec(("u",), 0.1, (0.5,), (2.0,), GrayScott()),
    MovingDigits(Digits(), 32, 8, 3, 10, 0.05, 99, 9, 7),
    VideoFolder("clips", (16, 32), 8, 2, 3, 12.5, 0.2, True),
    VideoCodec(16, 32, 3, 12.5),
    SpaceTime(8, 16, 2, 2, 2, 3, 1, 2, 2, 1, 3),
    NextState(SpaceTime(width=8), Bernoulli(True), 5, 2, Continuation(12, True)),
    Continuation(12, True),
    NextFrameLikelihood(99),
    ClipContinuation(9, 4, 2, while_training=True),
    ClipMotion(99, 4, 2),
    Rollout(length=9, start=(1.0, 2.0)),
    Forecast(given=2, change=0.5, sampler=Rollout(length=9)),
    Lyapunov(2, 9, 99, 9, while_training=True),
    NeighbourDivergence(9, 99, (1, 5), 3, 2, while_training=True),
    ToneQuality(9, while_training=False),
    RolloutFidelity(9, 99, 999, while_training=True),
    EnsembleCalibration(9, 5, (1, 2), 0.1, while_training=True),
    MelCodec(8_000, 16, 20, 128, 32, 3.5, 50.0, 8),
    Flip(0.25),
    Crop(3, "constant", 0.5),
    Rotate(5.0, "constant", 0.5),
    Color(0.1, 0.2, 0.3, 0.4),
    Cutout(3, 0.5, 0.75),
    Mixup(0.3),
]
# Made at run time, or what components inherit from.
NO_COMPONENTS = {
    "Arrays",
    "Asked",
    "AttributedSplit",
    "Blend",
    "CaptionRequest",
    "Captioned",
    "ChatLayout",
    "ChatRows",
    "Chosen",
    "ClassNames",
    "Clips",
    "Comparison",
    "Condition",
    "Constraints",
    "Conversation",
    "Corpus",
    "Counts",
    "Dataset",
    "Dialect",
    "DrawLoop",
    "DrawRows",
    "Drawn",
    "DrawnSketch",
    "EndToEnd",
    "Evaluator",
    "FeatureSpace",
    "File",
    "FileReader",
    "FileTexts",
    "Findings",
    "Found",
    "FromBase",
    "Gaps",
    "Grouped",
    "Implication",
    "ImageCodes",
    "Index",
    "Judge",
    "LabelledRows",
    "Layout",
    "Lazy",
    "Listing",
    "MixedTexts",
    "Model",
    "Nets",
    "NoiseSchedule",
    "Numbers",
    "Opened",
    "Optimizer",
    "Origin",
    "Paced",
    "PackedPairs",
    "Painter",
    "Paired",
    "Pairs",
    "Parametrization",
    "Part",
    "Picture",
    "PictureGaps",
    "Pictures",
    "PicturesWithCaptions",
    "PieceWindows",
    "PreferencePairs",
    "PreferenceRows",
    "PrefixedRows",
    "Prepared",
    "Pretrained",
    "Processor",
    "RecordTexts",
    "Relabelled",
    "Relation",
    "Report",
    "Request",
    "RowLikelihood",
    "Rows",
    "Rule",
    "Runs",
    "Said",
    "Sampler",
    "Schedule",
    "SentenceSplit",
    "Sentences",
    "Shuffled",
    "Side",
    "SketchedScenes",
    "SketchedSplit",
    "Span",
    "Spec",
    "SelfSpeculator",
    "Speculator",
    "StoredTable",
    "StoredTexts",
    "Subject",
    "Sum",
    "TableRows",
    "TableTexts",
    "TfdsReader",
    "Ahead",
    "TokenReader",
    "Triples",
    "Typed",
    "Undivided",
    "UpdateRule",
    "Vision",
    "Walk",
    "WalkRows",
    "WavReader",
    "Windows",
    "WithCondition",
}


def name_of(component):
    return type(component).__name__


def test_the_list_above_misses_no_component():
    rooms = ("families", "nets", "data", "evaluation", "samplers", "posttrain")
    modules = [optim, schedules, parallel, start] + [
        importlib.import_module(found.name)
        for room in rooms
        for found in pkgutil.walk_packages([f"{genjax.__path__[0]}/{room}"], f"genjax.{room}.")
    ]
    configurable = {
        name
        for module in modules
        for name, found in vars(module).items()
        if inspect.isclass(found)
        and dataclasses.is_dataclass(found)
        and found.__module__ == module.__name__
        if not issubclass(found, nn.Module)
        and not name.startswith("_")  # Linen modules are dataclasses as well
    }
    assert configurable - NO_COMPONENTS == {name_of(c) for c in COMPONENTS}


@pytest.mark.parametrize("component", COMPONENTS, ids=name_of)
def test_a_component_comes_back_equal_through_text(component):
    text = json.dumps(to_json(component))
    again = from_json(json.loads(text))
    assert again == component and type(again) is type(component)
    assert hash(again) == hash(component)
    assert json.dumps(to_json(again)) == text


def test_a_spec_comes_back_with_its_array():
    spec = Spec(
        "image",
        (2, 2, 1),
        np.linspace(-1, 1, 4, dtype=np.float32).reshape(2, 2, 1),
        10,
        condition=6,
    )
    again = from_json(json.loads(json.dumps(to_json(spec))))
    assert again.shape == spec.shape and again.classes == 10 and again.condition == 6
    assert again.mean.dtype == np.float32 and np.array_equal(again.mean, spec.mean)


def full() -> Experiment:
    return Experiment(
        family=VAE(3, MLPCoder((8,))),
        data=Points("swiss_roll", 100, 20),
        optimizer=optim.Muon(Cosine(0.1)),
        augment=(Reconstructions(9),),
        curriculum=Resolutions((4, 8), (20,)),
        steps=40,
        batch_size=24,
        seed=5,
        precision="bfloat16",
        ema=0.9,
        evaluators=(Reconstructions(2), Interpolations()),
        every=Every(4, 8, 12, 16),
        keep=Keep(3, "kl", True),
        devices=Devices(1),
        steps_per_dispatch=4,
        workers=2,
    )


def test_config_json_is_stable_and_complete():
    text = dumps(full())
    again = loads(text)
    assert again == full() and hash(again) == hash(full())
    assert dumps(again) == text and text.endswith("}\n")
    stored = json.loads(text)
    assert stored["format"] == 2 and stored["experiment"]["class"] == "genjax.experiment:Experiment"
    assert stored["experiment"]["family"]["coder"] == {
        "class": "genjax.nets.mlp:MLPCoder",
        "hidden": [8],
        "activation": "relu",
    }
    assert stored["experiment"].keys() - {"class"} == {
        f.name for f in dataclasses.fields(Experiment)
    }


def test_nothing_is_unpickled_and_only_dataclasses_are_called(monkeypatch):
    def refuse(*_):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert loads(dumps(full())) == full()
    with pytest.raises(UserError, match="is not a dataclass"):
        from_json({"class": "genjax.config_files:load_config", "command": "true"})
    for name in ("os:system", "builtins:eval", "subprocess:Popen", "jax:Array"):
        with pytest.raises(Untrusted, match=name):
            from_json({"class": name, "command": "true"})


CUSTOM = """
from dataclasses import dataclass
from genjax.data.sources import Points
from genjax.experiment import Experiment
from genjax.families.masked_lm import Filling, MaskedLM
from genjax.families.masking import Masking
from genjax.families.vae import VAE
from genjax.nets.transformer.dit import DiT
from genjax.nets.transformer.image_encoder import ImageEncoder, Patches
from genjax.nets.mlp import MLPCoder


@dataclass(frozen=True)
class Wide(MLPCoder):
    factor: int = 2


@dataclass(frozen=True)
class Mine(VAE):
    extra: float = 0.5

    def __post_init__(self):
        assert isinstance(self.coder, Wide)


def get_config(tiny=False):
    return Experiment(Mine(coder=Wide((4,), factor=1 if tiny else 3), extra=0.25), Points())
"""


def test_a_class_of_the_config_file_is_found_through_its_copy(tmp_path):
    (tmp_path / "mine.py").write_text(CUSTOM)
    experiment, path = load_config(str(tmp_path / "mine.py"))
    assert path == tmp_path / "mine.py"
    text = dumps(experiment)
    assert '"genjax_config:Mine"' in text
    assert type(experiment.family).__annotations__ == {
        "extra": float
    }  # its own __future__ imports, not ours
    (tmp_path / "run").mkdir()
    copy = tmp_path / "run" / "config.py"
    copy.write_text(path.read_text())
    path.unlink()
    sys.modules.pop(stored_files.CONFIG_MODULE)
    again = loads(text, copy)
    assert (again.family.extra, again.family.coder.factor) == (0.25, 3)
    assert dumps(again) == text
    assert loads(text, copy) == again  # the same classes whenever it is read
    copy.unlink()
    sys.modules.pop(stored_files.CONFIG_MODULE)
    with pytest.raises(UserError, match="needs genjax_config:Mine, which cannot be imported here"):
        loads(text, copy)


def test_a_config_file_that_was_edited_is_read_anew(tmp_path):
    path = tmp_path / "mine.py"
    for extra in ("0.25", "0.75"):  # of one length, within one tick of the file system's clock
        path.write_text(CUSTOM.replace("extra=0.25", f"extra={extra}"))
        assert load_config(str(path))[0].family.extra == float(extra)


@pytest.mark.parametrize("tiny", [False, True])
def test_tiny_reaches_the_config(tmp_path, tiny):
    (tmp_path / "mine.py").write_text(CUSTOM)
    assert load_config(str(tmp_path / "mine.py"), tiny)[0].family.coder.factor == (1 if tiny else 3)


def stored(**changes):
    tree = json.loads(dumps(full()))
    tree["experiment"] |= changes
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            stored(batch_sise=3),
            "unknown field of Experiment 'batch_sise'; did you mean 'batch_size'",
        ),
        (
            stored(family={"class": "genjax.families.vae:VEA"}),
            "unknown class or function of genjax.families.vae 'VEA'",
        ),
        (
            stored(family={"class": "genjax.families.nowhere:VAE"}),
            "genjax.families.nowhere:VAE, which cannot be",
        ),
        (stored(family={"class": "torch_is_not_here:VAE"}), "torch_is_not_here:VAE"),
        (stored(family={"class": ":VAE"}), "not genjax's"),
        (stored(family={"class": ".vae:VAE"}), "not genjax's"),
        (stored(family={"latent_dim": 3}), "no class"),
        (
            stored(family={"class": "genjax.families.vae:VAE", "latnt_dim": 3}),
            "did you mean 'latent_dim'",
        ),
        (
            stored(data={"class": "genjax.data.sources.folder:ImageFolder"}),
            "ImageFolder cannot be made.*root",
        ),
        (
            stored(family={"class": "genjax.families.vae:VAE", "latent_dim": "many"}),
            "latent_dim must be a whole number",
        ),
        (stored(steps=-1), "steps"),
        (
            dumps(full()).replace('"format": 2', '"format": 1'),
            "must be 2, got 1: the run was made by another",
        ),
        (dumps(full())[:-40], "config.json is damaged"),
        ("", "config.json is damaged"),
        ("[]", "config.json is damaged"),
        ('{"format": 2}', "config.json is damaged"),
        (
            json.dumps({"format": 2, "experiment": to_json(VAE())}),
            "damaged: it holds no Experiment",
        ),
        (json.dumps({"format": 2, "experiment": [1]}), "damaged: it holds no Experiment"),
    ],
)
def test_a_config_json_that_does_not_fit_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        loads(text)


@dataclasses.dataclass(frozen=True)
class Holder:
    value: object


@pytest.mark.parametrize("value", [len, {1, 2}, {"a": 1}, np.float32(1), VAE, b"x"])
def test_what_json_cannot_hold_is_refused_when_it_is_written(value):
    with pytest.raises(UserError, match="cannot be written as JSON"):
        to_json(Holder(value))


def test_a_class_that_no_later_run_could_find_is_refused_when_it_is_written():
    @dataclasses.dataclass(frozen=True)
    class Local:
        pass

    with pytest.raises(UserError, match="Local is defined in a function"):
        to_json(Holder(Local()))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seed": 6}, "seed: 5 -> 6"),
        ({"family": VAE(4, MLPCoder((8,)))}, "family.latent_dim: 3 -> 4"),
        ({"family": VAE(3, MLPCoder((9,)))}, "family.coder.hidden.0: 8 -> 9"),
        ({"family": VAE(3, MLPCoder((8, 8)))}, r"family.coder.hidden: [8] -> [8, 8]"),
        ({"family": VAE(3, ConvCoder())}, "family.coder: MLPCoder -> ConvCoder"),
        ({"optimizer": optim.Muon(Constant(0.1))}, "optimizer.learning_rate: Cosine -> Constant"),
        ({"augment": (Reconstructions(3),)}, "augment.0.num: 9 -> 3"),
        (
            {"augment": (Reconstructions(9), Interpolations())},
            "augment: [Reconstructions] -> [Reconstructions, Interpolations]",
        ),
        ({"ema": None}, "ema: 0.9 -> None"),
    ],
)
def test_differences_name_the_dotted_field(changes, line):
    changed = dataclasses.replace(full(), **changes)
    assert list(differences(to_json(full()), to_json(changed))) == [line]
    with pytest.raises(UserError) as refused:
        check_resumable(full(), changed)
    assert line in str(refused.value)


def test_differences_of_equals_are_none_and_several_are_all_named():
    assert not list(differences(to_json(full()), to_json(full())))
    changed = dataclasses.replace(full(), seed=1, precision="float32")
    with pytest.raises(UserError, match="seed: 5 -> 1; precision: 'bfloat16' -> 'float32'"):
        check_resumable(full(), changed)


FREE = {
    "steps": 80,
    "every": Every(0, 4, 0, 4),
    "evaluators": (Interpolations(),),
    "devices": Devices(2, "pmapped"),
    "data": dataclasses.replace(TFDS(root="/here"), root="/there"),
}
BOUND = {
    "family": VAE(9),
    "data": TFDS("fashion_mnist", root="/here"),
    "optimizer": optim.SGD(),
    "augment": (Reconstructions(),),
    "curriculum": Resolutions((4, 8), (8,)),
    "batch_size": 48,
    "seed": 6,
    "precision": "float32",
    "ema": 0.99,
    "keep": Keep(),
    "steps_per_dispatch": 2,
    "workers": 3,
    "start_from": StartFrom("runs/other"),
}


@pytest.mark.parametrize("name", FREE)
def test_these_may_differ_on_resume(name):
    before = dataclasses.replace(full(), data=TFDS(root="/here"))
    check_resumable(before, dataclasses.replace(before, **{name: FREE[name]}))


def test_the_cache_of_a_source_may_differ():
    before, after = (
        dataclasses.replace(full(), data=TextFiles("/here", cache=cache))
        for cache in (None, "/there")
    )
    check_resumable(before, after)


def test_the_root_of_a_source_within_a_source_may_differ():
    before, after = (
        dataclasses.replace(full(), data=Stacked(TFDS(root=root))) for root in ("/here", "/there")
    )
    check_resumable(before, after)


@pytest.mark.parametrize("name", BOUND)
def test_these_may_not_differ_on_resume(name):
    before = dataclasses.replace(full(), data=TFDS(root="/here"))
    with pytest.raises(UserError, match=rf"differs in {name}\b"):
        check_resumable(before, dataclasses.replace(before, **{name: BOUND[name]}))


def test_every_field_of_an_experiment_is_tried_above():
    assert FREE.keys() | BOUND.keys() == {f.name for f in dataclasses.fields(Experiment)}


def test_a_config_is_found_by_its_bare_name_and_by_its_path(tmp_path, monkeypatch):
    by_name = find_config("vae_digits")
    assert by_name.name == "vae_digits.py" and by_name.parent.name == "vae"
    assert find_config(str(by_name)) == by_name
    monkeypatch.chdir(tmp_path)  # from anywhere
    assert find_config("vae_digits") == by_name
    (tmp_path / "own.py").write_text("")
    assert find_config("own.py").samefile(tmp_path / "own.py")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae_digit", "unknown config 'vae_digit'; did you mean 'vae_digits'"),
        ("vae_b0.5", "unknown config 'vae_b0.5'; did you mean 'vae_"),
        ("zzz", "unknown config 'zzz'; known: .*vae_digits"),
        ("nowhere.py", "no config file at 'nowhere.py'"),
        ("configs/nowhere", "no config file at 'configs/nowhere'"),
        ("", "CONFIG must be a path, got ''"),
    ],
)
def test_an_unknown_config_is_refused_with_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        find_config(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1/0", "bad.py, line 1, failed: ZeroDivisionError"),
        (
            "import torch_is_not_here",
            "bad.py, line 1, failed: ModuleNotFoundError.*torch_is_not_here",
        ),
        ("def get_config(:", "bad.py, line 1, failed: SyntaxError"),
        ("x = 1", r"bad.py has no get_config\(tiny=False\)"),
        (
            "def get_config(tiny=False): return {}",
            "get_config of .*bad.py returned dict, not an Experiment",
        ),
        ("def get_config(tiny=False): pass", "returned NoneType"),
        ("def get_config(tiny=False): return 1/0", "bad.py, line 1, failed: ZeroDivisionError"),
        ("def get_config(): pass", "bad.py failed: TypeError.*tiny"),
        (
            "from genjax import Experiment\nfrom genjax.families.vae import VAE\n"
            "def get_config(tiny=False): return Experiment(VAE(0), None)",
            "latent_dim must be at least 1",  # a UserError speaks for itself
        ),
    ],
)
def test_a_config_file_that_is_wrong_is_its_authors_mistake(tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=message):
        load_config(str(tmp_path / "bad.py"))


def test_a_file_of_another_kind_is_no_config(tmp_path):
    (tmp_path / "notes.txt").write_text("def get_config(tiny=False): pass")
    with pytest.raises(UserError, match=r"notes.txt is not a Python file"):
        load_config(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -3),
        ("steps", 1.5),
        ("batch_size", 0),
        ("batch_size", 2.25),
        ("steps_per_dispatch", 0),
        ("steps_per_dispatch", "4"),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", None),
        ("workers", -1),
        ("precision", "float16"),
        ("precision", None),
        ("ema", 0.0),
        ("ema", 1.0),
        ("ema", float("nan")),
        ("augment", ("flip",)),
        ("evaluators", ("loss",)),
    ],
)
def test_a_bad_value_of_an_experiment_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"\b{name}\b"):
        toy.experiment(**{name: value})


@pytest.mark.parametrize("name", ["log", "evaluate", "sample", "checkpoint"])
@pytest.mark.parametrize("value", [-1, 0.5])
def test_a_bad_interval_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^{name} must be .* \(Every\)"):
        Every(**{name: value})
    assert getattr(Every(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_no_checkpoint_at_all_is_refused(value):
    with pytest.raises(UserError, match="newest must be"):
        Keep(newest=value)


@pytest.mark.parametrize(
    "name", ["every.log", "every.evaluate", "every.sample", "every.checkpoint"]
)
def test_what_falls_inside_a_dispatch_is_refused_by_name(name):
    changes = {"steps": 40, "every": Every(4, 8, 12, 16), "steps_per_dispatch": 4}
    toy.experiment(**changes)
    changes["every"] = dataclasses.replace(changes["every"], **{name.partition(".")[2]: 6})
    with pytest.raises(UserError, match=rf"^{name} \d+ is not a multiple of steps_per_dispatch 4"):
        toy.experiment(**changes)


def test_the_nearest_precision_is_named():
    with pytest.raises(
        UserError, match="precision must be one of 'float32', 'bfloat16', got 'bfloat'"
    ):
        toy.experiment(precision="bfloat")


@pytest.mark.parametrize("evaluator", [{"rows": 0}, {"steps": 1}])
def test_evaluators_that_would_draw_nothing_are_refused(evaluator):
    with pytest.raises(UserError, match=next(iter(evaluator))):
        Interpolations(**evaluator)
    with pytest.raises(UserError, match="num"):
        Reconstructions(num=0)


def test_a_function_of_a_config_comes_back_by_its_name(tmp_path):
    source = tmp_path / "config.py"
    source.write_text(
        "def reward(prompts, responses):\n    return [float(len(r)) for r in responses]\n\nNUMBER "
        "= 3\n"
    )
    trust.allow_here([trust.file_entry(source.read_bytes())])
    reward = stored_files.execute(source, source.read_bytes(), {}).reward
    assert to_json(reward) == {"function": f"{stored_files.CONFIG_MODULE}:reward"}
    assert from_json(to_json(reward), source)(["a"], ["bc"]) == [2.0]
    with pytest.raises(UserError, match="has no name by which a later run finds it"):
        to_json(lambda prompts, responses: [])
    with pytest.raises(UserError, match="NUMBER is not a function"):
        from_json({"function": f"{stored_files.CONFIG_MODULE}:NUMBER"}, source)
    with pytest.raises(UserError, match="unknown class or function of genjax.errors 'nothing'"):
        from_json({"function": "genjax.errors:nothing"})


def test_a_changed_function_is_told_by_its_name():
    one, other = (
        {"function": "genjax_config:short"},
        {"class": "genjax_config:Judge", "strict": True},
    )
    assert list(config_files.differences({"reward": one}, {"reward": other})) == [
        "reward: short -> Judge"
    ]
