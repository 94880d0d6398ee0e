"""Five novels by the paragraph, cleaned and without what stands twice, for ``PreparedTexts("prepare_books")``.

    python -m genjax data prepare prepare_books        # text/books/*.txt.gz of $GENJAX_DATA
    python -m genjax data prepare prepare_books --tiny # descriptions that ship with scikit-learn

Lines of a paragraph become one; contents, lists of chapters and rows of stars go by length and symbols. Near-duplicates
are those of a Jaccard similarity of 0.7 of their runs of three words. A tenth of the paragraphs is held out.

31,150 paragraphs became 27,118 (24,449 to train on): 3,808 were too short, 92 repeated themselves, 8 stood twice and
121 nearly twice. 48 seconds and at most 0.9 GB on two x86 cores shared with other work.
"""

from pathlib import Path

import sklearn.datasets

from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Texts
from genjax.prepare.stages.anonymous import Anonymous
from genjax.prepare.stages.duplicates import ExactDuplicates, NearDuplicates
from genjax.prepare.stages.splits import Splits
from genjax.prepare.stages.texts import Length, Repetition, StandardText, SymbolRatio


def get_config(tiny: bool = False) -> Preparation:
    near = MinHash(permutations=64, ngram=3, threshold=0.7)
    books = Texts(("text/books/*.txt.gz",), unit="paragraphs")
    described = Texts(("descr/*.rst",), str(Path(sklearn.datasets.__file__).parent), "paragraphs")
    return Preparation(
        readers=(described if tiny else books,),
        stages=(
            StandardText(keep_lines=False),
            Length(least=40, most=8000),
            SymbolRatio(),
            Repetition(),
            ExactDuplicates(),
            NearDuplicates(near),
            Anonymous(),
            Splits(test=0.1, texts=near),
        ),
        licence="BSD-3-Clause" if tiny else "public domain in the USA",
        origin="descriptions of scikit-learn's data sets" if tiny else "Project Gutenberg 145, 996, 1023, 1661, 2600",
    )
