"""atheris's side of `python -m bench fuzz-channel --atheris PYTHON`: bytes for new branches of the host's reader.

Run by a Python that has atheris (its wheels are for some versions only, and it instruments what it imports):

    PYTHON bench/jail/atheris_side.py -runs=N -seed=S
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["rlm_local.jail.wire", "rlm_local.jail.messages", "json.decoder"]):
    from rlm_local.jail import messages, wire

DOCUMENT_CHARS = (1_000, 77)


def one(payload: bytes) -> None:
    """Take in one payload as the host does: it is a message, or a WireError, and nothing else."""
    try:
        frame = wire.decode(payload, max_values=wire.MAX_VALUES)
        messages.parse(frame, document_chars=DOCUMENT_CHARS, output_bytes=4096)
    except wire.WireError:
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
