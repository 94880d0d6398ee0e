"""All components of configs in one namespace: ``from genjax import gx``.

Modules are imported on first use.
"""

from __future__ import annotations

import sys
from typing import Any

from etils import epy

from genjax.errors import UnknownComponent
from genjax.serial.equivalents import suggest_component
from genjax.serial.fields import replace_fields

with epy.lazy_api_imports(globals()):
    from genjax.data.audio.abc import AbcTunes
    from genjax.data.audio.augment import Transposition
    from genjax.data.audio.music import ChoraleCodec
    from genjax.data.audio.spectrograms import MelSpectrograms
    from genjax.data.audio.voices import VoiceCodec
    from genjax.data.chat.template import ChatTemplate
    from genjax.data.design.attributed import Attributed
    from genjax.data.design.attributes import Attribute, Attributes, HideAttributes
    from genjax.data.design.measures import (
        bright_symmetrical_sleeveless,
        brightness,
        narrowness,
        sleeves,
        symmetry,
    )
    from genjax.data.design.sketches import Sketched
    from genjax.data.images.augment import Color, Crop, Cutout, Flip, Mixup, Rotate
    from genjax.data.order.curriculum import ByDifficulty, Lengths, NoiseLevels, Resolutions
    from genjax.data.order.difficulty import ByFunction, ReferenceLoss, TextLength
    from genjax.data.order.pacing import LinearPacing, RootPacing, StepPacing
    from genjax.data.reasoning.problems import ReasoningGym, Verifier
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
    from genjax.data.sources.captioned import Scene
    from genjax.data.sources.random_walks import optimality
    from genjax.data.sources.rule_responses import positivity
    from genjax.data.tables.pairs import Customers, RelatedTables
    from genjax.data.text.augment import Substitution, TokenDropout, TokenSwaps
    from genjax.data.text.codecs import Bytes, Characters, Words
    from genjax.data.text.hashed import HashedText
    from genjax.data.text.layouts import Blocks, Documents, Packed, RandomWindows
    from genjax.data.text.prefixes import Prefixed
    from genjax.data.text.splits import ByCharacters, ByDocuments, ByFiles
    from genjax.data.text.subwords import Subwords
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
    from genjax.families.diffusion.control import ControlNet, SketchSampling
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
    from genjax.optim import SGD, Adam, AdamW, Muon, Players
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
    from genjax.prepare.matching.image_hash import ImageHash
    from genjax.prepare.matching.linkage import Blocking, FieldComparison, Linkage
    from genjax.prepare.matching.minhash import MinHash
    from genjax.prepare.people import GeneratedPeople
    from genjax.prepare.preparation import Preparation
    from genjax.prepare.readers import Csv, Images, Texts
    from genjax.prepare.stages.anonymous import Anonymous
    from genjax.prepare.stages.duplicates import ExactDuplicates, Linked, NearDuplicates, NearImages
    from genjax.prepare.stages.images import Blur, ImageSize, StandardImages
    from genjax.prepare.stages.splits import Splits
    from genjax.prepare.stages.texts import Length, Repetition, StandardText, SymbolRatio
    from genjax.prepare.stages.values import Valid
    from genjax.prepare.tfds_images import TfdsImages
    from genjax.samplers import DDIM, DDPM, Adaptive, Ancestral, DPMSolver, Euler, Heun
    from genjax.samplers.diffusion.processes import EDM, Straight, VPCosine, VPLinear
    from genjax.samplers.tokens.beam import BeamSearch
    from genjax.samplers.tokens.decoding import TokenSampler
    from genjax.schedules import Constant, Cosine, Cyclical, Linear, Piecewise, Rsqrt, WarmUp
    from genjax.start_from import StartFrom

_load = globals()["__getattr__"]  # of the lazy imports above


def __getattr__(name: str) -> Any:
    """Load a component; for an unknown one, suggest the nearest name."""
    try:
        return _load(name)
    except AttributeError:
        if not name[:1].isupper():
            raise
    known = [word for word in dir(sys.modules[__name__]) if word[:1].isupper()]
    raise UnknownComponent(f"gx has no {name}; {suggest_component(name, known)}", name)
