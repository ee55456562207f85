"""A small corpus of licences, in the layout of real ones: hard-wrapped, indented, with repeated sentences."""

from collections.abc import Sequence

import pytest

from rlm_local.documents.corpus import join
from rlm_local.texts import HeldText, Shelf
from rlm_local.types import Corpus, Document

NORTH = """\
                        THE NORTH WIND LICENSE
                     Version 2.1, November 2019

  1. Grant. Subject to the terms of this License, each Contributor hereby
grants to You a perpetual, worldwide, royalty-free copyright license to
reproduce, prepare derivative works of, and distribute the Work.

  2. Conditions. You may distribute copies of the Work provided that:

      (a) You must cause any modified files to carry prominent notices
          stating that You changed the files; and

      (b) You must give every recipient a copy of this License.

  3. Termination. If You fail to comply with Section 2, Your rights end.
They are reinstated permanently if You cure the violation prior to
thirty (30) days after Your receipt of the notice.

  4. THE WORK IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.
"""

SOUTH = """\
                        THE SOUTH SHORE LICENSE
                     Version 1.0, March 2004

  1. You may copy the Program if you keep this notice intact. The notice
period for claims is 45 days. A fee of $1,250,000 is due on breach.

  2. This License is governed by the law of the State of California,
without regard to its conflict of law rules.

  4. THE WORK IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.
"""


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return join([Document("licences/north-wind", NORTH), Document("licences/south-shore", SOUTH)])


def sealed(documents: Sequence[Document]) -> Corpus:
    """Return documents as they are after they were read from files and joined, when they are long."""
    shelf, loaded = Shelf(), []
    for document in documents:
        shelf.put(str(document.text), text := HeldText())
        loaded.append(Document(document.name, text))
    return join(loaded, sealed_chars=0)
