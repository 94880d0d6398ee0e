"""A captioner of generated pictures: a vision transformer reads a coloured shape, a decoder writes what it shows.

    python -m genjax train caption_shapes
    python -m genjax sample runs/caption_shapes --sampler.image shape.png --num 1     # a PNG of 16x16 pixels
    python -m genjax evaluate runs/caption_shapes

The test split shows combinations of shape, colour, place and size that training never does. Samples during training
are captions of the small red circle that is written out below; greedy, all of them are the same.

3,000 steps take 2.2 minutes of CPU time, 7 to 8 minutes on a busy machine of two x86 cores. Of the attributes of 1,000
held-out pictures greedy captions name 99.98 %, 99.83 % and 99.40 % as they are, of seeds 0, 1 and 2 (of the data, too);
99.9 %, 99.3 % and 97.6 % of the captions are right in all four. Nearly all that seeds 0 and 2 get wrong is a small
circle taken for a small square, or the reverse. The loss is 0.110 nats a token on held-out pictures of seed 0; which of
three sentences a caption is, which no picture tells, is ln 3 over 10.1 tokens of them, 0.108. Runs of
1,500 steps named 99.7 %, 99.1 % and 95.2 % of the attributes as they are.
"""

from genjax.data.pictures import png_bytes
from genjax.data.sources import ShapeCaptions
from genjax.data.sources.captioned import Scene, render
from genjax.data.text.captions import inline
from genjax.evaluation.captions.accuracy import CaptionAccuracy
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.captioner import CaptionDecoding, Captioner
from genjax.nets.transformer.image_encoder import ImageEncoder, Patches
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    width = 16 if tiny else 64
    picture = inline(png_bytes(render(Scene("circle", "red", "at the top left", "small"))))
    return Experiment(
        family=Captioner(
            net=Transformer(1 if tiny else 2, heads=2, width=width, context=16),
            encoder=ImageEncoder(Patches(4), width, depth=1 if tiny else 2, heads=2),
            sampler=CaptionDecoding(steps=12, temperature=0.0, image=picture),
        ),
        data=ShapeCaptions(size=200, test_size=50) if tiny else ShapeCaptions(),
        optimizer=AdamW(WarmUp(4 if tiny else 100, Cosine(2e-3, 1e-5)), weight_decay=0.05),
        steps=8 if tiny else 3000,
        batch_size=16 if tiny else 64,
        evaluators=() if tiny else (CaptionAccuracy(),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 500, 1000, 500),
    )
