"""Samplers of diffusion processes; they call the posterior mean, a function, never a network."""

from genjax.samplers.diffusion.adaptive import Adaptive
from genjax.samplers.diffusion.ancestral import DDIM, DDPM, Ancestral
from genjax.samplers.diffusion.guidance import fix_known, guide
from genjax.samplers.diffusion.likelihood import log_density
from genjax.samplers.diffusion.solvers import DPMSolver, Euler, Heun
from genjax.samplers.diffusion.steps import Denoise, Sampler, Walk

__all__ = [
    "DDIM",
    "DDPM",
    "Adaptive",
    "Ancestral",
    "DPMSolver",
    "Denoise",
    "Euler",
    "Heun",
    "Sampler",
    "Walk",
    "fix_known",
    "guide",
    "log_density",
]
