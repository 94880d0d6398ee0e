"""CIFAR-10 without images that look alike, for ``PreparedImages("prepare_images", label="label")``.

    python -m genjax data prepare prepare_images        # cifar10_jpeg, prepared by TensorFlow Datasets
    python -m genjax data prepare prepare_images --tiny # pictures that ship with Matplotlib

Of near-duplicates within and across the set's own splits one is kept, so that no test image is known from training
(Barz and Denzler, arXiv 1902.00423, count 3.3 % of the test images among the training images). Then a tenth is held out
anew.

Not yet run to its end: only its tiny form has run.
"""

import matplotlib

from genjax.prepare.duplicates import ExactDuplicates, NearImages
from genjax.prepare.image_hash import ImageHash
from genjax.prepare.pictures import Blur, ImageSize, StandardImages
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Images
from genjax.prepare.splitting import Splits
from genjax.prepare.tfds_images import TfdsImages


def get_config(tiny: bool = False) -> Preparation:
    pictures = Images(("images/*.png",), matplotlib.get_data_path())
    near = ImageHash()
    return Preparation(
        readers=(pictures if tiny else TfdsImages("cifar10_jpeg"),),
        stages=(
            ImageSize(least=16, aspect=2.0),
            StandardImages(size=(32, 32)),
            Blur(10.0),
            ExactDuplicates(("image",)),
            NearImages(near),
            Splits(test=0.1, images=near),
        ),
        licence="Matplotlib's own" if tiny else "no formal licence; free for research",
        origin="pictures that ship with Matplotlib" if tiny else "CIFAR-10 (Krizhevsky, 2009), as JPEG",
    )
