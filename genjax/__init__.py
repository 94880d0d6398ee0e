"""genjax: generative models of every family, trained by the same few pure functions in JAX."""

from genjax.machine import early

early.end_at_signals()  # before all that takes seconds to import

from etils import epy  # noqa: E402

with epy.lazy_api_imports(globals()):  # JAX is imported on first use
    from genjax.config_files import load_config
    from genjax.experiment import Every, Experiment, Keep
    from genjax.runs.run import Run, load
    from genjax.training import train

__version__ = "0.1.0"
__all__ = ["Every", "Experiment", "Keep", "Run", "load", "load_config", "train"]
