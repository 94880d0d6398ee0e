"""genjax: generative models of every family, trained by the same few pure functions in JAX."""

from genjax.experiment import Every, Experiment, Keep, load_config
from genjax.runs import Run, load
from genjax.train import train

__version__ = "0.1.0"
__all__ = ["Every", "Experiment", "Keep", "Run", "load", "load_config", "train"]
