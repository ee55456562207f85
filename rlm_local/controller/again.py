"""Whether a turn is an earlier one again."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from rlm_local.grammar import parsed
from rlm_local.types import Action, Cell, CellStatus, Turn

# Each new cell is compared with all before it, and one costs half a millisecond to read: with fewer kept than a run has
# turns, every turn would read all of them again.
_KEPT = 2_000


def has_run(action: Action, turns: Sequence[Turn]) -> bool:
    """Say whether an action could only come to what it came to in one of these turns.

    Of two cells the layout, the comments, and imports that the later one leaves out make no difference: what was
    imported once stays so. An import that it adds does, for it may mend what stopped the earlier one. A cell that
    stopped may come further when another has run to its end since, or without an import that it has stopped at.
    """
    another_has_run = False
    for turn in reversed(turns):
        has_stopped = turn.result is not None and turn.result.status is not CellStatus.OK
        if not (has_stopped and another_has_run) and _is_again(action, turn.action, may_import_less=not has_stopped):
            return True
        another_has_run = another_has_run or (turn.result is not None and not has_stopped)
    return False


def _is_again(action: Action, earlier: Action, *, may_import_less: bool) -> bool:
    if action == earlier:
        return True
    if not isinstance(action, Cell) or not isinstance(earlier, Cell):
        return False
    mine, theirs = _parts(action.code), _parts(earlier.code)
    if mine is None or theirs is None or mine[1] != theirs[1]:
        return False
    return mine[0] <= theirs[0] if may_import_less else mine[0] == theirs[0]


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
