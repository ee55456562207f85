"""Whether a turn is an earlier one again."""

from __future__ import annotations

import ast
from functools import lru_cache
from hashlib import blake2b

from rlm_local.grammar import parsed
from rlm_local.types import Action, Cell

# Each new cell is compared with all before it, and one costs half a millisecond to read: with fewer kept than a run has
# turns, every turn would read all of them again.
_KEPT = 2_000


def is_again(action: Action, earlier: Action) -> bool:
    """Say whether an action does only what an earlier one did.

    Of two cells the layout, the comments, and imports that the later one leaves out make no difference: what was
    imported once stays so. An import that it adds does, for it may mend what stopped the earlier one.
    """
    if action == earlier:
        return True
    if not isinstance(action, Cell) or not isinstance(earlier, Cell):
        return False
    mine, theirs = _parts(action.code), _parts(earlier.code)
    return mine is not None and theirs is not None and mine[0] <= theirs[0] and mine[1] == theirs[1]


@lru_cache(maxsize=_KEPT)
def _parts(code: str) -> tuple[frozenset[str], bytes] | None:
    """Return a cell's imports and a digest of what else it does; None when it is no Python, or too deep to tell."""
    tree = parsed(code)
    if tree is None:
        return None
    imports = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
    tree.body = [one for one in tree.body if not isinstance(one, ast.Import | ast.ImportFrom)]
    try:
        return frozenset(map(ast.dump, imports)), blake2b(ast.dump(tree).encode(errors="surrogatepass")).digest()
    except RecursionError:
        return None
