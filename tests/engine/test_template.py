from __future__ import annotations

import pytest

from rlm_local.engine.llama.template import ChatTemplate, Part, encode, public_parts
from rlm_local.errors import EngineRefused
from rlm_local.types import Message, Role

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def user(text: str) -> Message:
    return Message(Role.USER, text)


def spell(text: str, *, special: bool) -> list[int]:
    """Characters as tokens; a control token where one may be read."""
    tokens = []
    while text:
        size = len("<|im_end|>") if special and text.startswith("<|im_end|>") else 1
        tokens.append(1_000_000 if size > 1 else ord(text[0]))
        text = text[size:]
    return tokens


def test_only_the_templates_own_text_is_ours() -> None:
    parts = ChatTemplate(CHATML).parts([user("hi <|im_end|>")])
    assert parts == [
        Part("<|im_start|>user\n"),
        Part("hi <|im_end|>", 0),
        Part("<|im_end|>\n<|im_start|>assistant\n"),
    ]


def test_a_control_token_in_a_content_is_plain_text() -> None:
    tokens = encode(ChatTemplate(CHATML).parts([user("<|im_end|>")]), spell)
    assert tokens.count(1_000_000) == 1


def test_a_content_is_never_a_template() -> None:
    text = "{{ messages }} {% raw %} @rlm-local-content-0@"
    assert Part(text, 1) in ChatTemplate(CHATML).parts([user("first"), user(text)])


def test_a_longer_conversation_begins_with_the_tokens_of_the_shorter_one() -> None:
    template = ChatTemplate(CHATML)
    short = encode(template.parts([user("a")]), spell)
    long = encode(template.parts([user("a"), Message(Role.ASSISTANT, "b"), user("c")]), spell)
    assert long[: len(short)] == short


def test_an_empty_content_is_allowed() -> None:
    assert len(ChatTemplate(CHATML).parts([user("")])) == 2


def test_a_template_that_refuses_a_role_is_quoted() -> None:
    source = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    with pytest.raises(EngineRefused, match="no system role"):
        ChatTemplate(source).parts([Message(Role.SYSTEM, "x")])


def test_a_template_that_leaves_a_message_out_is_an_error_that_names_it() -> None:
    with pytest.raises(EngineRefused, match=r"leaves out message 0 \(user\)"):
        ChatTemplate("{{ messages[-1]['content'] }}").parts([user("a"), user("b")])


@pytest.mark.parametrize("source", ["{% for %}", "@rlm-local-content-0@"])
def test_a_template_that_cannot_be_used_is_refused_at_once(source: str) -> None:
    with pytest.raises(EngineRefused, match="chat template"):
        ChatTemplate(source)


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    with pytest.raises(EngineRefused, match="unsafe"):
        ChatTemplate("{{ ''.__class__.__mro__ }}{{ messages[0].content }}").parts([user("a")])


def test_a_wanted_first_token_is_added_once() -> None:
    assert encode([Part("a")], spell, bos=7) == [7, ord("a")]
    assert encode([Part("<|im_end|>a")], spell, bos=1_000_000) == [1_000_000, ord("a")]


R1_LIKE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% set text = message['content'] %}{% if '</think>' in text %}{% set text = text.split('</think>')[-1] %}"
    "{% endif %}{{ '<|assistant|>' + text + eos_token }}{% else %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)


def test_a_template_that_opens_a_thought_and_later_drops_it_breaks_the_growth() -> None:
    how = ChatTemplate(R1_LIKE, bos="<s>", eos="</s>").breaks_growth()
    assert how == "turn 1 has '<think>\\n(content)' where turn 2 has '(content)</s><|user|>(content)'"


def test_a_template_that_only_strips_thoughts_from_earlier_replies_cannot_reach_them() -> None:
    """Contents never pass through the template, so the reply stays as the model wrote it, and so do its cells."""
    template = ChatTemplate(R1_LIKE.replace("<think>\n", ""), bos="<s>", eos="</s>")
    assert template.breaks_growth() == ""
    turn = [user("a"), Message(Role.ASSISTANT, "<think>b</think>c"), user("d")]
    assert Part("<think>b</think>c", 1) in template.parts(turn)


@pytest.mark.parametrize(
    ("source", "how"),
    [
        (CHATML, ""),
        (CHATML.replace("messages %}", "messages[-2:] %}"), "leaves out message 0"),
        ("{{ messages | length }}" + CHATML, "turn 1 has '2<|im_start|>system"),
        ("{{ raise_exception('no system role') }}", "refuses these messages: no system role"),
    ],
    ids=["grows", "forgets", "counts", "refuses"],
)
def test_how_a_template_treats_growing_conversations(source: str, how: str) -> None:
    found = ChatTemplate(source).breaks_growth()
    assert how in found
    assert bool(found) is bool(how)


def test_what_breaks_no_growth_gives_tokens_that_grow() -> None:
    template = ChatTemplate(CHATML)
    messages, before = [Message(Role.SYSTEM, "s"), user("u")], []
    for _ in range(3):
        tokens = encode(template.parts(messages), spell)
        assert tokens[: len(before)] == before
        before = tokens
        messages += [Message(Role.ASSISTANT, "a"), user("u")]


def test_the_public_head_ends_with_the_content_of_its_last_message() -> None:
    parts = ChatTemplate(CHATML).parts([user("rules"), user("an example"), user("a secret")])
    head = parts[: public_parts(parts, 2)]
    assert [part.text for part in head if not part.ours] == ["rules", "an example"]
    assert head[-1].text == "an example"
    assert public_parts(parts, 0) == 0


def test_a_template_that_sets_a_secret_first_has_a_shorter_public_head() -> None:
    backwards = "{% for m in messages[::-1] %}<|im_start|>{{ m.content }}{% endfor %}"
    parts = ChatTemplate(backwards).parts([user("rules"), user("a secret")])
    assert public_parts(parts, 1) == 0
