"""Cards are read strictly, found kindly, and carry no hash that nobody computed."""

import re
from pathlib import Path

import pytest

from rlm_local.cards import (
    DEFAULT_MODEL,
    PROFILES,
    EngineKind,
    find_card,
    load_cards,
    read_card,
    shard_names,
    user_cards_folder,
)
from rlm_local.errors import ConfigError
from rlm_local.price import Price
from rlm_local.rooms import room
from rlm_local.types import DEFAULT_PROTOCOL, AnswerProtocol

HASH = "ab" * 32
CARD = """
name = "toy"
aliases = ["toy-1b"]
family = "toy"
profile = "small"
licence = "MIT"
context_tokens = 512
description = "a toy"

[sampling]
temperature = 0.5

[llama]
repo = "someone/toy"

[[llama.files]]
name = "toy.gguf"
"""
PARTS = """
[[llama.parts]]
file = "toy.gguf"
package = "toy-part{n}"
version = "1.0"
member = "toy_part{n}/data/part{n:02}.bin"
count = 12
"""


def write(folder: Path, text: str, name: str = "toy") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def environ(tmp_path: Path) -> dict[str, str]:
    return {"RLM_LOCAL_HOME": str(tmp_path)}


def test_every_shipped_card_is_complete() -> None:
    cards = load_cards({"HOME": "/nonexistent"})
    assert {card.name for card in cards} == {path.stem for path in room("models").glob("*.toml")}
    for card in cards:
        assert card.profile in PROFILES
        assert card.engines
        for weights in card.engines:
            assert weights.files
            for parts in weights.parts:
                assert parts.package_of(1) != parts.package_of(2) or parts.count == 1


def test_the_issues_models_have_cards_for_their_engines() -> None:
    engines = {card.name: [str(one.engine) for one in card.engines] for card in load_cards({"HOME": "/nonexistent"})}
    assert engines == {
        "qwen2.5-coder-0.5b": ["llama"],
        "qwen2.5-coder-1.5b": ["llama"],
        "qwen3-coder": ["llama", "vllm"],
        "qwen3-coder-480b": ["llama", "vllm"],
        "qwen3-30b-a3b": ["vllm"],
        "rlm-qwen3-30b-a3b": ["vllm"],
        "smollm2-135m": ["llama"],
    }
    assert DEFAULT_MODEL in engines


def test_the_known_hashes_are_those_whose_origin_the_readme_tells() -> None:
    readme = (room("models") / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \| (\d+) \|", readme, flags=re.MULTILINE))
    known = {
        (card.name, file.sha256, str(file.bytes))
        for card in load_cards({"HOME": "/nonexistent"})
        for weights in card.engines
        for file in weights.files
        if file.sha256
    }
    assert known == told


def test_a_card_without_hash_size_or_revision_is_whole(tmp_path: Path) -> None:
    weights = read_card(write(tmp_path, CARD)).weights(EngineKind.LLAMA)
    assert (weights.revision, weights.bytes, weights.files[0].sha256) == (None, None, None)
    assert weights.chat_template == "from the weights"


def test_a_card_may_say_how_its_weights_answer_and_what_they_may_import(tmp_path: Path) -> None:
    plain = read_card(write(tmp_path, CARD))
    assert (plain.protocol, plain.imports) == (DEFAULT_PROTOCOL, None)
    said = CARD.replace('family = "toy"', 'family = "toy"\nprotocol = "answer"\nimports = ["standard", "os.path"]')
    card = read_card(write(tmp_path, said))
    assert (card.protocol, card.imports) == (AnswerProtocol.ANSWER, ("standard", "os.path"))


def test_part_numbers_are_filled_in_with_their_width(tmp_path: Path) -> None:
    (parts,) = read_card(write(tmp_path, CARD + PARTS)).weights("llama").parts
    assert [parts.package_of(2), parts.member_of(2)] == ["toy-part2", "toy_part2/data/part02.bin"]
    assert [parts.package_of(12), parts.member_of(12)] == ["toy-part12", "toy_part12/data/part12.bin"]


def test_a_card_may_say_what_tokens_cost(tmp_path: Path) -> None:
    listed = '[price]\ncurrency = "EUR"\nprompt = 2\ncompletion = 8.5\n\n[llama]'
    assert read_card(write(tmp_path, CARD)).price is None
    assert read_card(write(tmp_path, CARD.replace("[llama]", listed))).price == Price("EUR", 2.0, 2.0, 8.5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "toy"', 'famly = "toy"', "family is missing"),
        (
            'family = "toy"',
            'family = "toy"\nlicense = "MIT"',
            "license is no field here; the nearest is 'licence'",
        ),
        ('repo = "someone/toy"', 'repo = "someone/toy"\nrevison = "x"', "llama.revison .* nearest is 'revision'"),
        ('profile = "small"', 'profile = "tiny"', "profile is 'tiny', but must be one of: small, large"),
        (
            'licence = "MIT"',
            'licence = "MIT"\nprotocol = "final_answer"',
            "protocol is 'final_answer', but must be one of",
        ),
        ('licence = "MIT"', 'licence = "MIT"\nimports = ["a b"]', "imports holds 'a b', but each must match"),
        ('licence = "MIT"', 'licence = "MIT"\nimports = []', "imports is empty; leave it out for any module"),
        ("context_tokens = 512", "context_tokens = 0", "context_tokens is 0, but must be at least 1"),
        ("context_tokens = 512", "context_tokens = true", "context_tokens is True, but must be of type int"),
        ("temperature = 0.5", "temperature = 3", "sampling.temperature is 3.0, but must be within 0.0..2.0"),
        ('name = "toy"', 'name = "Toy"', "name is 'Toy', but must match"),
        ('name = "toy"', 'name = "other"', "name is 'other', but must be the file's name"),
        ('repo = "someone/toy"', 'repo = "someone/toy"\nrevision = "main"', "llama.revision is 'main', but must match"),
        ('name = "toy.gguf"', 'name = "../toy.gguf"', r"llama.files\[0\].name is '../toy.gguf'"),
        ('name = "toy.gguf"', f'name = "toy.gguf"\nsha256 = "{HASH}"', r"files\[0\].sha256 stands without bytes"),
        ('name = "toy.gguf"', 'name = "toy.gguf"\nsha256 = "abc"', r"files\[0\].sha256 is 'abc'"),
        ('aliases = ["toy-1b"]', "aliases = [1]", "aliases holds 1"),
        ('repo = "someone/toy"', 'repo = "someone/toy"\nshard_index = "x.json"', "none of the files: toy.gguf"),
        (
            'repo = "someone/toy"',
            'repo = "someone/toy"\nchat_template = "chatml"',
            "llama.chat_template is 'chatml', but only 'from the weights' is served",
        ),
        ("[llama]", '[price]\ncurrency = "EUR"\nprompt = 1\n\n[llama]', "price.completion is missing"),
        ("[llama]", '[price]\ncurrency = "euro"\nprompt = 1\n\n[llama]', "price.currency is 'euro', but must match"),
        (
            "[llama]",
            '[price]\ncurrency = "EUR"\nprompt = 1\ncached = 2\ncompletion = 3\n\n[llama]',
            "price.cached is 2.0, but must be within 0.0..1.0",
        ),
        ("[sampling]", "[sampling", "not TOML"),
        ("[sampling]", f"x = {'[' * 3_000}", "holds a number of thousands of digits, or as many levels"),
        ("[sampling]", f"x = {'9' * 5_000}", "holds a number of thousands of digits, or as many levels"),
    ],
)
def test_a_wrong_card_is_refused_by_file_key_and_repair(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, CARD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as caught:
        read_card(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("toy-part{n}", "--index-url=x{n}", "package"),  # would be an option of pip
        ("toy-part{n}", "toy-part", "package"),  # twelve parts of one name
        ("toy_part{n}/data/part{n:02}.bin", "/etc/{n}", "member"),
        ("toy-part{n}", "toy-{n.__class__}", "package"),
        ('file = "toy.gguf"', 'file = "other.gguf"', "parts"),
    ],
)
def test_parts_that_are_not_plain_names_are_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"llama\.(parts\[0\]\.)?{key} "):
        read_card(write(tmp_path, CARD + PARTS.replace(old, new)))


def test_a_card_without_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither \[llama\] nor \[vllm\]"):
        read_card(write(tmp_path, CARD[: CARD.index("[llama]")]))


@pytest.mark.parametrize("name", ["qwen2.5-coder-1.5b", "Qwen2.5-Coder", " QWEN2.5-CODER-1.5B "])
def test_a_model_is_found_by_name_and_alias_in_any_case(name: str) -> None:
    assert find_card(name, load_cards({"HOME": "/nonexistent"})).name == "qwen2.5-coder-1.5b"


def test_an_unknown_model_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(ConfigError, match="no model is named 'smolm2'") as caught:
        find_card("smolm2", load_cards({"HOME": "/nonexistent"}))
    assert caught.value.hint.startswith("did you mean smollm2")


def test_a_users_card_is_added_and_takes_the_place_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "models", CARD)
    ours = (room("models") / "smollm2-135m.toml").read_text(encoding="utf-8")
    write(tmp_path / "models", ours.replace("context_tokens = 8192", "context_tokens = 2048"), "smollm2-135m")
    cards = load_cards(environ(tmp_path))
    assert find_card("toy-1b", cards).name == "toy"
    assert find_card("smollm2", cards).context_tokens == 2048


@pytest.mark.parametrize("name", ["toy", "a-toy"])
def test_a_users_alias_that_is_taken_is_refused_with_both_files(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "models", CARD.replace("toy-1b", "smollm2").replace('"toy"', f'"{name}"'), name)
    with pytest.raises(ConfigError, match="'smollm2' already names") as caught:
        load_cards(environ(tmp_path))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("smollm2-135m.toml")


def test_user_cards_lie_in_the_config_folder() -> None:
    assert user_cards_folder({"HOME": "/h"}) == Path("/h/.config/rlm-local/models")
    assert user_cards_folder({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == Path("/c/rlm-local/models")
    assert user_cards_folder({"RLM_LOCAL_HOME": "/r"}) == Path("/r/models")
    with pytest.raises(ConfigError, match="HOME is 'h', but must be an absolute path"):
        user_cards_folder({"HOME": "h"})
    with pytest.raises(ConfigError, match="XDG_CONFIG_HOME is 'c'"):
        user_cards_folder({"XDG_CONFIG_HOME": "c"})


def test_an_engine_without_weights_is_named_with_those_that_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no weights for engine 'vllm', only for: llama"):
        read_card(write(tmp_path, CARD)).weights(EngineKind.VLLM)


def test_a_shard_index_may_name_plain_safetensors_files_only() -> None:
    good = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    assert shard_names(good, "index") == ("model-1.safetensors", "model-2.safetensors")
    for name in ("../x.safetensors", "a/b.safetensors", "model.bin", 3):
        with pytest.raises(ConfigError, match=r"not \.safetensors files"):
            shard_names({"weight_map": {"a": name}}, "index")
    with pytest.raises(ConfigError, match="names no file"):
        shard_names({}, "index")


ADAPTER = CARD.replace('"toy"', '"turned"').replace('"toy-1b"', "").replace("[llama]", '[vllm]\nbase = "toy"')
ADAPTER = ADAPTER.replace("[[llama.files]]", "[[vllm.files]]")


def test_an_adapter_names_the_card_whose_weights_are_under_it(tmp_path: Path) -> None:
    write(tmp_path / "models", CARD.replace("llama", "vllm"))
    write(tmp_path / "models", ADAPTER, "turned")
    adapter = find_card("turned", load_cards(environ(tmp_path))).weights(EngineKind.VLLM)
    assert (adapter.base, adapter.files[0].name) == ("toy", "toy.gguf")


def test_an_adapter_over_nothing_and_one_for_llama_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "models", ADAPTER, "turned")
    with pytest.raises(ConfigError, match="base is 'toy', but no card of that name has whole"):
        load_cards(environ(tmp_path))
    with pytest.raises(ConfigError, match="served by vLLM only"):
        read_card(write(tmp_path, CARD.replace("[llama]", '[llama]\nbase = "other"')))
