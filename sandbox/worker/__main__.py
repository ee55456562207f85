"""The worker: opens the documents, locks itself in, and runs cells until the host hangs up.

    python -s -P -S -B -c BOOT SOCKET_FD BUNDLE_FD [ahead] [packages]

`ahead`: no documents are there yet, so there is time to read in what a cell may need. `packages`: cells may import more
than the standard library. The worker itself does not; Python 3.11 to 3.13. Nothing that it says of itself is trusted by
the host. What is imported here is what a first cell needs: everything else waits until it is used.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import sys
import warnings

# `signal` gives its numbers names, which takes a tenth of a start.
from _signal import SIG_IGN, SIGINT, signal  # type: ignore[import-not-found]

from sandbox.worker import stage2
from sandbox.worker.cell import Cell, traceback_text
from sandbox.worker.channel import Channel, Nowhere
from sandbox.worker.corpus import Corpus
from sandbox.worker.names import Finished, Names
from sandbox.worker.output import BoundedOutput
from sandbox.worker.text import open_text, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_SPARE_BYTES = 12 << 20  # given up when memory runs out, so that the worker can still say so, and import what it takes
_TAKEN = (
    "{} belong to this session and are put back now; the cell's own values of these names are gone: name them otherwise"
)
_PENDING_SIGNALS = 64  # timers too; where we are not root all jails of a user share the kernel's own bound


class Worker:
    """One session: the names, the output, and the interrupt that the host may send."""

    def __init__(self, channel: Channel, names: Names, output: BoundedOutput) -> None:
        self._channel = channel
        self._names = names
        self._output = output
        self._interruptible = False
        self._spare: mmap.mmap | None = _spare()

    def serve(self) -> None:
        while True:
            frame = self._channel.next_cell()
            self._run(frame["cell_id"], frame["code"], frame["facts"])  # type: ignore[arg-type]  # the host's frames are well formed

    def rehearse(self) -> None:
        """Run a cell that does nothing: the first one of all takes longer than those after it."""
        self._run(0, "None", {})

    def _run(self, cell_id: int, code: str, facts: dict[str, Any]) -> None:
        # Every cell begins with these, whatever an earlier one has put in their place.
        signal(SIGINT, self._interrupt)
        sys.stdout = sys.stderr = self._output
        self._names.begin(cell_id, facts)
        status, error = self._execute(cell_id, code)
        if status == "out_of_memory":
            gc.collect()
        try:
            taken = self._names.end()
            if taken and self._names.final is None:
                self._output.write(f"\n({_TAKEN.format(', '.join(taken))})\n")
        except Exception as failure:  # what the model left in `answer` may do anything
            status, error = "raised", traceback_text(failure)
        self._names.cell_id = 0
        self._channel.end_cell(cell_id)
        printed = self._output.take()
        self._channel.send(
            {"op": "done", "cell_id": cell_id, "status": status, "error": error, "final": self._names.final, **printed}
        )
        if self._spare is None:
            self._spare = _spare()

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
            self._spare = None
            return "out_of_memory", traceback_text(error)
        except BaseException as error:  # SystemExit too: a cell ends, the session does not
            return "raised", traceback_text(error)
        return "ok", ""

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # The host repeats the signal until the cell ends, so one that comes at a bad moment may be dropped.
        if self._interruptible and not self._channel.is_busy():
            raise KeyboardInterrupt("the cell's time is up")


def _spare() -> mmap.mmap | None:
    """Return address space that nothing is written to: it is held, and takes no memory. None while there is none."""
    try:
        return mmap.mmap(-1, _SPARE_BYTES)
    except OSError:
        return None  # tried again after the next cell


def main() -> None:
    """Serve one session. Whatever goes wrong before the first cell is told on standard error, for the host."""
    channel = Channel(int(sys.argv[1]))
    seccomp = stage2.Filter()
    if "packages" in sys.argv[3:]:
        from sandbox.worker.packages import offer

        offer()
    if "ahead" in sys.argv[3:]:
        read_in()
        channel.send({"op": "waiting"})
    frame, descriptor = channel.receive_with_descriptor()
    opening: dict[str, Any] = frame
    text = opening["text"]
    context = open_text(descriptor, text["chars"], text["char_bytes"], is_ascii=text["is_ascii"])
    corpus = Corpus(context, opening["names"], opening["starts"], opening["lengths"])
    names = Names(corpus, channel, opening["notes"])
    output = BoundedOutput(opening["output_bytes"])
    # Whether started ahead or not, from here on the bounds are those of this run.
    for kind, bound in ((resource.RLIMIT_AS, "address_space_bytes"), (resource.RLIMIT_CPU, "cpu_s")):
        resource.setrlimit(kind, (opening[bound], opening[bound]))
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (_PENDING_SIGNALS, _PENDING_SIGNALS))
    warnings.simplefilter("ignore")
    # Until here the host reads what the interpreter says when it fails; no cell shall write there.
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    sys.argv[:] = [""]
    # The first cell's time may be up before it has begun; the host repeats the signal.
    signal(SIGINT, SIG_IGN)
    seccomp.install()
    worker = Worker(channel, names, output)
    channel.send({"op": "ready", "python": sys.version.split()[0]})
    worker.serve()


def read_in() -> None:
    """Do what is otherwise done by the first cell that needs it."""
    import ast
    import dataclasses
    import linecache
    import traceback
    import typing

    import sandbox.worker.search

    del ast, dataclasses, linecache, traceback, typing, sandbox
    prepare()
    streams = sys.stdout, sys.stderr
    Worker(Nowhere(), Names(Corpus("", [], [], []), Nowhere(), {}), BoundedOutput(0)).rehearse()
    sys.stdout, sys.stderr = streams
    gc.collect()
    gc.freeze()  # what is there by now stays
