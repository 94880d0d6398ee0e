"""Samplers of diffusion processes: they take the posterior mean as a function, never a network."""

from genjax.samplers.adaptive import Adaptive
from genjax.samplers.ancestral import DDIM, DDPM, Ancestral
from genjax.samplers.guidance import guided, known
from genjax.samplers.likelihood import log_density
from genjax.samplers.solvers import DPMSolver, Euler, Heun
from genjax.samplers.steps import Denoise, Sampler, Walk

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
    "guided",
    "known",
    "log_density",
]
