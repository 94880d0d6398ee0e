"""genjax: generative models of every family, trained by the same few pure functions in JAX."""

from genjax.machine import early

early.end_at_signals()  # before all that takes seconds to import

from genjax.config_files import load_config  # noqa: E402
from genjax.experiment import Every, Experiment, Keep  # noqa: E402
from genjax.runs.run import Run, load  # noqa: E402
from genjax.training import train  # noqa: E402

__version__ = "0.1.0"
__all__ = ["Every", "Experiment", "Keep", "Run", "load", "load_config", "train"]
