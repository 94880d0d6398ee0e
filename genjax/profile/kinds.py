"""Say what each operation of a compiled program computes, and for which part of the step."""

from __future__ import annotations

import re

# The first that fits an operation's scope, else the first that fits what it computes.
SCOPES = {
    "update": r"/update_parameters/",
    "average": r"/update_average/",
    "norm and checks": r"/check_gradients/",
    "random numbers": r"threefry|random_bits|jit\(_(uniform|normal)|erf_inv",
}
COMPUTED = {
    "between devices": r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)",
    "convolutions": r" convolution\(|custom_call_target=\"__cudnn\$conv",
    "matrix products": r" dot\(|custom_call_target=\"__(cublas|triton)",
    "sums": r" reduce(-window)?\(",
    "copies and windows": r" (copy|concatenate|pad|transpose|reverse|dynamic-slice)\(",
    "loops and branches": r" (while|conditional|call)\(",
}
OTHER = "elementwise"
LINE = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
SCOPE = re.compile(r'op_name="([^"]*)"')


def read_kinds(program: str) -> dict[str, tuple[str, str]]:
    """Return the kind and the scope of every operation, from the text of a compiled program."""
    bodies: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    body: list[str] = []
    for line in program.splitlines():
        if line.startswith(("%", "ENTRY")):
            body = bodies.setdefault(line.removeprefix("ENTRY ").split()[0].lstrip("%"), [])
        elif found := LINE.match(line):
            body.append(found[2])
            lines[found[1]] = found[2]
    kinds = {}
    for name, text in lines.items():
        called = re.search(r"calls=%([\w.\-]+)", text) if " fusion(" in text else None
        whole = [text, *(bodies.get(called[1], []) if called else [])]
        # Its own scope says most; a few operations have one inside only.
        scopes = SCOPE.findall(text) or [s for part in whole for s in SCOPE.findall(part)]
        kinds[name] = choose_kind(scopes, whole), scopes[0] if scopes else ""
    return kinds


def choose_kind(scopes: list[str], texts: list[str]) -> str:
    """Return the kind of an operation traced in these scopes that computes these texts."""
    for kinds, given in ((SCOPES, scopes), (COMPUTED, texts)):
        for kind, pattern in kinds.items():
            if any(re.search(pattern, text) for text in given):
                return kind
    return OTHER
