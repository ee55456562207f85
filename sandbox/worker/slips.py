"""What code never means: a comparison that cannot come out true, and so reads like a finding that there is nothing.

Small models copy a name from the question as it is written, and look for it in a text that they have put in lower case.
"""

from __future__ import annotations

_CASES = {"lower": (str.lower, "capitals"), "casefold": (str.lower, "capitals"), "upper": (str.upper, "small letters")}


def refuse_slips(code: str) -> None:
    """Raise ValueError, with the repair, for code that looks for capitals in what .lower() returns, or the like."""
    if not any(f".{name}()" in code for name in _CASES):
        return
    import ast

    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Compare(
                left=ast.Constant(value=str(wanted)),
                ops=[ast.In() | ast.NotIn() | ast.Eq() | ast.NotEq()],
                comparators=[ast.Call(func=ast.Attribute(attr=name), args=[])],
            ) if name in _CASES:
                folded, what = _CASES[name]
                if wanted != folded(wanted):
                    raise ValueError(
                        f"line {node.lineno}: {wanted!r} has {what}, and what .{name}() returns has none, so it is "
                        f"never there; write {folded(wanted)!r}, or for a document: document.has({wanted!r})"
                    )
            case _:
                pass
