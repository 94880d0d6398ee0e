"""A flow of Fashion-MNIST items by their attributes, in the latents of a VAE.

    python -m genjax train classifier_fashion_mnist    # says which item a sample is
    python -m genjax train vae_fashion_mlp             # the latent space
    python -m genjax train attributes_to_fashion
    python -m genjax sample runs/attributes_to_fashion --prompt "a bright dress, sleeveless"
    python -m genjax sample runs/attributes_to_fashion \
        --prompt "item='boot' and brightness='dark'" --num 16
    python -m genjax evaluate runs/attributes_to_fashion

Brightness, symmetry and sleeves are measured from the pixels (`genjax/data/design/measures.py`).

Result:
    command: python -m genjax train attributes_to_fashion
    data: Fashion-MNIST, attributes measured from its pixels
    value: not yet run
"""

from genjax import gx

CLASSIFIER = "runs/classifier_fashion_mnist"
ITEMS = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
TOPS = (0, 2, 3, 4, 6)  # of the items; the others have no sleeves to ask for


def get_config(tiny: bool = False) -> gx.Experiment:
    attributes = gx.Attributes(
        (
            gx.Attribute("item", ITEMS),
            gx.Attribute("brightness", ("dark", "medium", "bright"), gx.brightness, (0.55, 0.75)),
            gx.Attribute("symmetry", ("asymmetrical", "symmetrical"), gx.symmetry, (0.8,)),
            gx.Attribute(
                "sleeves",
                ("sleeveless", "short-sleeved", "long-sleeved"),
                gx.sleeves,
                (0.5, 1.5),
                TOPS,
            ),
        )
    )
    experiment = gx.Experiment(
        family=gx.LatentDiffusion(
            autoencoder="runs/vae_fashion_mlp",
            diffusion=gx.Diffusion(
                net=gx.ResidualMLP(256, 4, 512),
                process=gx.Straight(),
                target="velocity",
                width=128,
                text=attributes,
                sampler=gx.Denoising(gx.Heun(16), guidance_scale=2.0),
            ),
        ),
        data=gx.Attributed(gx.TFDS(name="fashion_mnist"), attributes),
        augment=(gx.HideAttributes(attributes, 0.2),),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5))),
        steps=6000,
        batch_size=128,
        ema=0.998,
        evaluators=(
            gx.AttributeAgreement(CLASSIFIER, while_training=False),
            gx.SampleQuality(CLASSIFIER, samples=1000, kernel_subset=300, while_training=False),
            gx.Memorisation(features=CLASSIFIER, samples=1000, while_training=False),
            gx.Diversity(features=CLASSIFIER, samples=1000, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1500, sample=3000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.diffusion.net": gx.ResidualMLP(16, 1, 16),
            "family.diffusion.width": 16,
            "family.diffusion.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
