"""`python3 -m tools [--dev]` sets a clone up. This file must run on old Pythons too, to say which one is needed."""

import sys

OLDEST = (3, 11)


def too_old(version: "tuple[int, ...]", found: str) -> str:
    """Return what to tell the owner of a Python of this version, or an empty string when it is new enough."""
    if version[:2] >= OLDEST:
        return ""
    return (
        f"error: rlm-local needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and this is {found}\n\n"
        "hint: name a newer one, for example: make setup PYTHON=python3.12"
    )


if __name__ == "__main__":
    complaint = too_old(tuple(sys.version_info[:3]), sys.version.split()[0])
    if complaint:
        sys.exit(complaint)
    # Here and not above: what it imports needs the new Python already.
    from tools.setup import main

    sys.exit(main())
