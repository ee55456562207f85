"""Where the data rooms (models/, grammars/, sandbox/) are: in the wheel, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from rlm_local.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def room(name: str) -> Path:
    """Return the folder of data room `name`; the wheel's copy is looked up before the checkout's.

    Starts from this file and not from site-packages: hatchling leaves stale copies of forced files there
    when the install is editable.
    """
    for folder in (_PACKAGE / "_rooms" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigError(f"no {name}/ beside {_PACKAGE}; the installation is incomplete", hint="reinstall rlm-local")
