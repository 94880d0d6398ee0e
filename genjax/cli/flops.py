"""Count the FLOPs of a function in its jaxpr: matrix products and convolutions, with all rounds of
loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """Count multiplications and additions in matrix products and convolutions, as usual for
    utilisation.

    XLA's own estimate counts the body of a loop only once. ``arguments`` may be abstract.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return (
            2
            * math.prod(equation.outvars[0].aval.shape)
            * math.prod(left[axis] for axis in contracted)
        )
    if name == "ragged_dot_general":  # a row meets only the matrix of its group
        numbers = params["ragged_dot_dimension_numbers"]
        (contracted, _), _ = numbers.dot_dimension_numbers
        left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        # The gradient of the matrices: a row adds to that of its group alone.
        out = out if numbers.rhs_group_dimensions else out[1:]
        return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        taps = math.prod(kernel) // outputs
        # The zeros between the inputs of a transposed convolution do not count.
        return (
            2
            * math.prod(equation.outvars[0].aval.shape)
            * taps
            // math.prod(params["lhs_dilation"])
        )
    inner = [_count(sub) for value in params.values() for sub in _jaxprs(value)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> list[Any]:
    """Return the jaxprs in a parameter of an equation: a branch, a body, a called function."""
    values = value if isinstance(value, tuple | list) else (value,)
    inner = [getattr(v, "jaxpr", v) for v in values]
    return [v for v in inner if hasattr(v, "eqns")]
