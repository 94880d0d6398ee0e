"""Translate names of other libraries into the nearest components of genjax."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Names from diffusers, transformers, TRL, torch, torchvision, torchmetrics, SDV, optax and papers,
# in lower case without punctuation.
ELSEWHERE = {
    "flowmatching": "Diffusion(process=Straight(), target='velocity')",
    "rectifiedflow": "Diffusion(process=Straight(), target='velocity')",
    "meanflow": "FlowMap(form='eulerian', start='sample')",
    "shortcutmodel": "FlowMap(form='progressive')",
    "consistencymodel": "FlowMap(form='eulerian', to_data=1.0)",
    "flowmatcheulerdiscretescheduler": "Straight() as process and Euler() as solver",
    "ddpmscheduler": "DDPM() or Ancestral() as solver",
    "ddimscheduler": "DDIM() as solver",
    "dpmsolvermultistepscheduler": "DPMSolver() as solver",
    "eulerdiscretescheduler": "Euler() as solver",
    "heundiscretescheduler": "Heun() as solver",
    "unet2dmodel": "UNet()",
    "unet2dconditionmodel": "UNet()",
    "autoencoderkl": "VAE() or VQVAE()",
    "vqmodel": "VQVAE()",
    "finitescalarquantization": "VQVAE(quantiser=FSQ())",
    "laddervae": "VDVAE()",
    "transformer2dmodel": "DiT()",
    "gpt": "Autoregressive(Transformer())",
    "gpt2": "Autoregressive(Transformer())",
    "gpt2lmheadmodel": "Autoregressive(Transformer())",
    "llama": "Autoregressive(Transformer())",
    "automodelforcausallm": "Autoregressive(Transformer())",
    "automodelforseq2seqlm": "Autoregressive(Transformer()) on SentencePairs()",
    "translator": "Autoregressive(Transformer()) on SentencePairs()",
    "bert": "MaskedLM()",
    "bertformaskedlm": "MaskedLM()",
    "mdlm": "MaskedDiffusion()",
    "md4": "MaskedDiffusion(masks='cosine')",
    "llada": "MaskedDiffusion(), with Unmasking(order='confident', block=32)",
    "gkdtrainer": "OnPolicyDistillation()",
    "automodelforsequenceclassification": "Classifier(TokenBackbone())",
    "dpotrainer": "DPO()",
    "ktotrainer": "KTO()",
    "orpotrainer": "ORPO()",
    "cpotrainer": "SimPO()",
    "ppotrainer": "PPO()",
    "ddpotrainer": "DDPO()",
    "rlootrainer": "RLOO()",
    "onlinedpotrainer": "OnlineDPO()",
    "grpotrainer": "GRPO()",
    "sfttrainer": "Autoregressive() on Instructions(), with start_from",
    "sft": "Autoregressive() on Instructions(), with start_from",
    "rewardtrainer": "RewardModel()",
    "loraconfig": "LoRA() with Adapters()",
    "qlora": "LoRA() with Adapters()",
    "mlp": "MLPCoder(), MLPBackbone(), MLPGenerator() or ResidualMLP()",
    "cnn": "ConvCoder(), ResNet() or UNet()",
    "vit": "ImageEncoder() or DiT()",
    "wgan": "GAN(loss='wasserstein')",
    "dcgan": "GAN(ConvGenerator(), ConvBackbone())",
    "r3gan": "GAN(loss='relativistic') with R3Generator() and R3Discriminator()",
    "stylegan": "GAN() with Progressive()",
    "cvae": "VAE(conditional=True)",
    "betavae": "VAE(beta=Constant(4.0))",
    "ctgan": "GAN(), see configs/gan/tabular_gan.py",
    "tvae": "VAE(likelihood=Tabular()), see configs/vae/tabular_vae.py",
    "fid": "SampleQuality(features='inception')",
    "frechetinceptiondistance": "SampleQuality(features='inception')",
    "inceptionscore": "SampleQuality() and Diversity()",
    "kid": "SampleQuality(features='inception')",
    "bleu": "TranslationQuality()",
    "perplexity": "LossByPosition() or DomainPerplexity(); loss is its logarithm",
    "randomcrop": "Crop()",
    "randomhorizontalflip": "Flip()",
    "colorjitter": "Color()",
    "randomerasing": "Cutout()",
    "randomrotation": "Rotate()",
    "cosineannealinglr": "Cosine()",
    "cosinedecayschedule": "Cosine()",
    "warmupcosine": "Cosine() with WarmUp()",
    "onecyclelr": "WarmUp() and Cosine()",
    "steplr": "Piecewise()",
    "constantlr": "Constant()",
    "dataset": "ImageFolder(), TextFiles(), Table() or TFDS()",
    "dataloader": "ImageFolder(), TextFiles(), Table() or TFDS()",
    "huggingfacedataset": "TextTables() of its Parquet files, or ImageFolder()",
    "mnist": "TFDS('mnist')",
    "cifar10": "TFDS('cifar10')",
    "csv": "Table('FILE.csv')",
    "bytepairencoding": "Subwords()",
    "bpe": "Subwords()",
    "tokenizer": "Subwords(), Words(), Characters() or Bytes()",
    "autotokenizer": "Subwords(file='tokenizer.json')",
    "characterlevel": "Characters()",
    "gaussiandiffusion": "Diffusion()",
    "ddpmpipeline": "Diffusion()",
    "trainingarguments": "Experiment(steps=..., batch_size=..., every=Every())",
    "trainer": "Experiment()",
    "earlystopping": "Keep(best='loss')",
    "ema": "Experiment(ema=0.999)",
}


def suggest_component(name: str, known: Iterable[str]) -> str:
    """Suggest a component for an unknown name in a config, or list the known ones."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    if plain in ELSEWHERE:
        return f"did you mean {ELSEWHERE[plain]}?"
    small = {word.lower(): word for word in sorted(known)}
    near = difflib.get_close_matches(plain, small, n=2, cutoff=0.6)
    near = near or [word for word in small if word in plain or plain in word][:3]
    if near:
        return f"did you mean {' or '.join(small[word] for word in near)}?"
    apart = difflib.get_close_matches(plain, ELSEWHERE, n=1, cutoff=0.75)
    if apart:
        return f"did you mean {ELSEWHERE[apart[0]]}?"
    return f"there are {', '.join(small.values())}"
