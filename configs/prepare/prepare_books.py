"""Five novels, cleaned and without repetitions, for `PreparedTexts("prepare_books")`.

    python -m genjax data prepare prepare_books        # text/books/*.txt.gz of $GENJAX_DATA
    python -m genjax data prepare prepare_books --tiny # descriptions that ship with scikit-learn

An example is a paragraph, whose lines are joined. Length and the share of symbols remove contents,
lists of chapters and rows of stars. Two paragraphs are near-duplicates if their runs of three words
have a Jaccard similarity of 0.7. A tenth of the paragraphs is held out.

31,150 paragraphs became 27,118, of which 24,449 train: 3,808 were too short, 92 were repetitive, 8
occurred twice and 121 nearly twice. It took 48 seconds and at most 0.9 GB on two x86 cores shared
with other work.

Result:
    command: python -m genjax data prepare prepare_books
    data: five novels, 31,150 paragraphs
    hardware: two x86 cores, shared
    minutes: 0.8
    metric: paragraphs that are kept
    value: 27118
"""

from pathlib import Path

import sklearn.datasets

from genjax import gx


def get_config(tiny: bool = False) -> gx.Preparation:
    near = gx.MinHash(permutations=64, ngram=3, threshold=0.7)
    books = gx.Texts(("text/books/*.txt.gz",), unit="paragraphs")
    preparation = gx.Preparation(
        readers=(books,),
        stages=(
            gx.StandardText(keep_lines=False),
            gx.Length(least=40, most=8000),
            gx.SymbolRatio(),
            gx.Repetition(),
            gx.ExactDuplicates(),
            gx.NearDuplicates(near),
            gx.Anonymous(),
            gx.Splits(test=0.1, texts=near),
        ),
        licence="public domain in the USA",
        origin="Project Gutenberg 145, 996, 1023, 1661, 2600",
    )
    if not tiny:
        return preparation
    return gx.replace_fields(
        preparation,
        {
            "readers.0.files": ("descr/*.rst",),
            "readers.0.root": str(Path(sklearn.datasets.__file__).parent),
            "licence": "BSD-3-Clause",
            "origin": "descriptions of scikit-learn's data sets",
        },
    )
