"""Sources of examples: frozen dataclasses whose ``open()`` returns a ``Dataset``."""

from genjax.data.sources.arithmetic import Arithmetic
from genjax.data.sources.captioned import CaptionedShapes
from genjax.data.sources.chorales import Chorales
from genjax.data.sources.digits import Digits
from genjax.data.sources.drawn.flowers import Flowers
from genjax.data.sources.folder import ImageFolder
from genjax.data.sources.instructions import Instructions
from genjax.data.sources.labelled import LabelledTexts
from genjax.data.sources.mixture import Mixture
from genjax.data.sources.music.midi_folder import MidiFolder
from genjax.data.sources.music.tunes import Tunes
from genjax.data.sources.music.voices import ChoraleVoices
from genjax.data.sources.pairs import SentencePairs
from genjax.data.sources.points import Points
from genjax.data.sources.preferences import LabelledAnswers, Preferences, RulePreferences
from genjax.data.sources.prepared import PreparedImages, PreparedTexts, Synthetic
from genjax.data.sources.python_docs import PythonDocs
from genjax.data.sources.random_walks import RandomWalks
from genjax.data.sources.rule_responses import RuleResponses
from genjax.data.sources.shape_captions import ShapeCaptions
from genjax.data.sources.sounds import SpokenDigits, WavFolder
from genjax.data.sources.stacked import Stacked
from genjax.data.sources.table import EmbeddedTable, Table, UCITable
from genjax.data.sources.text import TextFiles, TextTables
from genjax.data.sources.text_pairs import TextPairs
from genjax.data.sources.tfds import TFDS
from genjax.data.sources.tfds_text import TFDSText
from genjax.data.sources.tones import Tones
from genjax.data.sources.video.moving_digits import MovingDigits
from genjax.data.sources.video.video_folder import VideoFolder

__all__ = [
    "TFDS",
    "Arithmetic",
    "CaptionedShapes",
    "ChoraleVoices",
    "Chorales",
    "Digits",
    "EmbeddedTable",
    "Flowers",
    "ImageFolder",
    "Instructions",
    "LabelledAnswers",
    "LabelledTexts",
    "MidiFolder",
    "Mixture",
    "MovingDigits",
    "Points",
    "Preferences",
    "PreparedImages",
    "PreparedTexts",
    "PythonDocs",
    "RandomWalks",
    "RulePreferences",
    "RuleResponses",
    "SentencePairs",
    "ShapeCaptions",
    "SpokenDigits",
    "Stacked",
    "Synthetic",
    "TFDSText",
    "Table",
    "TextFiles",
    "TextPairs",
    "TextTables",
    "Tones",
    "Tunes",
    "UCITable",
    "VideoFolder",
    "WavFolder",
]
