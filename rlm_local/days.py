"""Days as people write them, to "YYYY-MM-DD": so written they sort, and are compared and cut, as texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

# English: a day in another language stays the text it is.
_NAMES = "january february march april may june july august september october november december"
_MONTHS = _NAMES.split()
_TIME = r"(?:[T ]\s*(?P<time>\d{1,2}:\d{2}.{0,24}))?"
# An order of day and month is one of these only where no text of the field speaks against it.
_FORMS = tuple(
    re.compile(form + _TIME, re.IGNORECASE)
    for form in (
        r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})",
        r"(?P<month>[a-z]{3,9})\.? (?P<d>\d{1,2})(?:st|nd|rd|th)?,? (?P<y>\d{4})",
        r"(?P<d>\d{1,2})(?:st|nd|rd|th|\.)? (?P<month>[a-z]{3,9})\.?,? (?P<y>\d{4})",
        r"(?P<d>\d{1,2})-(?P<month>[a-z]{3,9})-(?P<y>\d{4})",
        r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})",
        r"(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})",
        r"(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<y>\d{4})",
    )
)


_A_DAY = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[/.]\d{1,2}[/.]\d{4}|\d{1,2}-[a-z]{3,9}-\d{4}"
    r"|\d{1,2}(?:st|nd|rd|th|\.)? [a-z]{3,9}\.?,? \d{4}|[a-z]{3,9}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4})(?!\d)"
)
_HEADING = re.compile(  # "[2021-03-04] ...", "Date: 4 March 2021 ...", "Porto, 4 March 1881"
    rf"^(?P<indent>[ \t]*)[^\w\n]{{0,4}}(?:[^\W\d]+[:,]? )?[^\w\n]{{0,2}}(?P<day>{_A_DAY})",
    re.IGNORECASE | re.MULTILINE,
)


def headings(text: str) -> list[tuple[int, str]]:
    """Return where in a text lines begin that a day heads, in order, and that day as "YYYY-MM-DD".

    Indented lines count only where no other has one. Days that may be read in two ways are left out, all of them.
    """
    found = list(_HEADING.finditer(text))
    flush = [match for match in found if not match["indent"]] or found
    slashed = [match["day"] for match in flush if "/" in match["day"]]
    of_slashed = day_reader(slashed) if slashed else None
    days = []
    for match in flush:
        read = of_slashed if "/" in match["day"] else day_reader([match["day"]])
        if read is not None:
            days.append((match.start(), read(match["day"])))
    return days


def day_reader(texts: Sequence[str]) -> Callable[[str], str] | None:
    """Return what writes each of these texts as "YYYY-MM-DD"; None where not all are days, or may be read in two ways.

    A time of day stays behind its day. An empty text stays empty.
    """
    fits = [form for form in _FORMS if all(_day(form, text) for text in texts)]
    read = [[_day(form, text) for text in texts] for form in fits]
    if not fits or any(other != read[0] for other in read[1:]):
        return None
    return lambda text: _day(fits[0], text)


def _day(form: re.Pattern[str], text: str) -> str:
    """Return the day; empty where the text is none."""
    match = form.fullmatch(text.strip())
    if not match:
        return ""
    named = match.groupdict()
    month = _month(named["month"]) if "month" in named else int(named["m"])
    try:
        day = date(int(named["y"]), month, int(named["d"])).isoformat()
    except ValueError:  # the 31st of June, or no month at all
        return ""
    return f"{day} {named['time']}" if named["time"] else day


def _month(word: str) -> int:
    """Return 1 to 12 for a month's name or its beginning, 0 for another word."""
    word = word.casefold()
    return next((at for at, name in enumerate(_MONTHS, start=1) if name.startswith(word)), 0)
