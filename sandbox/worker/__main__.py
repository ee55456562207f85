"""The worker: opens the documents, locks itself in, and runs cells until the host hangs up.

    python -s -P -S -B /worker SOCKET_FD TEXT_FD

Standard library only; Python 3.11 to 3.13. Nothing that it says of itself is trusted by the host.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import sys
import warnings
from types import FrameType
from typing import Any, cast

from sandbox.worker import stage2
from sandbox.worker.cell import Cell, traceback_text
from sandbox.worker.channel import Channel
from sandbox.worker.corpus import Corpus, read_sealed_text
from sandbox.worker.names import Finished, Names
from sandbox.worker.output import BoundedOutput

_SPARE_BYTES = 4 << 20  # given up when memory runs out, so that the worker can still say so
_SEED = 0  # a replayed cell draws the same numbers


class Worker:
    """One session: the names, the output, and the interrupt that the host may send."""

    def __init__(self, channel: Channel, names: Names, output: BoundedOutput) -> None:
        self._channel = channel
        self._names = names
        self._output = output
        self._interruptible = False
        self._spare = bytearray(_SPARE_BYTES)

    def serve(self) -> None:
        while True:
            frame = self._channel.cells.get()
            self._run(cast("int", frame["cell_id"]), cast("str", frame["code"]))

    def _run(self, cell_id: int, code: str) -> None:
        # Every cell begins with these, whatever an earlier one has put in their place.
        signal.signal(signal.SIGINT, self._interrupt)
        sys.stdout = sys.stderr = cast("Any", self._output)
        self._names.begin(cell_id)
        status, error = self._execute(cell_id, code)
        if status == "out_of_memory":
            gc.collect()
        try:
            self._names.end()
        except Exception as failure:  # what the model left in `answer` may do anything
            status, error = "raised", traceback_text(failure)
        self._names.cell_id = 0
        self._channel.end_cell(cell_id)
        printed = self._output.take()
        self._channel.send(
            {"op": "done", "cell_id": cell_id, "status": status, "error": error, "final": self._names.final, **printed}
        )
        if not self._spare:
            self._spare = bytearray(_SPARE_BYTES)

    def _execute(self, cell_id: int, code: str) -> tuple[str, str]:
        """Return the cell's status and its traceback; the empty text where it ended well."""
        try:
            try:
                self._interruptible = True
                Cell(cell_id, code).run(self._names.variables)
            finally:
                self._interruptible = False
        except Finished:
            return "ok", ""
        except KeyboardInterrupt as error:
            self._interruptible = False
            return "timeout", traceback_text(error)
        except MemoryError as error:
            self._spare = bytearray()
            return "out_of_memory", traceback_text(error)
        except BaseException as error:  # SystemExit too: a cell ends, the session does not
            return "raised", traceback_text(error)
        return "ok", ""

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # The host repeats the signal until the cell ends, so one that comes at a bad moment may be dropped.
        if self._interruptible and not self._channel.is_sending():
            raise KeyboardInterrupt("the cell's time is up")


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    opening = cast("dict[str, Any]", channel.receive())
    context = read_sealed_text(int(sys.argv[2]))
    corpus = Corpus(context, opening["names"], opening["starts"], opening["lengths"])
    names = Names(corpus, channel, opening["notes"])
    output = BoundedOutput(opening["output_bytes"])
    # Decoding took room for more than one copy; cells get what was promised and the documents' own share.
    memory_bytes = opening["memory_bytes"] + sys.getsizeof(context)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    warnings.simplefilter("ignore")
    random.seed(_SEED)
    # Until here the host reads what the interpreter says when it fails; no cell shall write there.
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    sys.argv[:] = [""]
    stage2.install()
    channel.send({"op": "ready", "python": sys.version.split()[0]})
    channel.listen()
    Worker(channel, names, output).serve()


if __name__ == "__main__":
    main()
