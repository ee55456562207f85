"""Whether the modules that a model is told of can be imported where its code will run."""

from __future__ import annotations

from collections.abc import Sequence

from rlm_local.errors import JailUnavailable
from rlm_local.jail.packages import Packages
from rlm_local.jail.session import JailSession
from rlm_local.limits import Limits
from rlm_local.types import CallForm, CellStatus, Corpus, SubCall

_IMPORT_S = 60.0


async def require_imports(packages: Packages, limits: Limits | None = None) -> None:
    """Import every module in a jail of its own. Raises JailUnavailable with the module's name and what it said.

    limits: of the cells that are to import them; memory is what a large package wants.
    """
    if not packages:
        return
    async with await JailSession.start(Corpus((), "", ()), limits or Limits(), packages=packages) as session:
        for module in packages.modules:
            result = await session.execute(f"import {module}", wall_s=_IMPORT_S, query=_no_query)
            if result.status is not CellStatus.OK:
                said = [line for line in result.error.splitlines() if line.strip()]
                why = next((line for line in reversed(said) if "Error" in line), said[-1] if said else result.status)
                raise JailUnavailable(
                    f"{module} cannot be imported in the jail: {why}",
                    hint="leave it out of --jail-packages; what starts processes, compiles at run time or reads files "
                    "of the system at import does not work there",
                )


async def _no_query(texts: Sequence[str], form: CallForm) -> Sequence[SubCall]:
    raise AssertionError(f"an import asks no model, but asked {len(texts)} texts")
