"""Chat templates: what Hugging Face's expect works, and a hostile one harms nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.engine import template
from app.engine.protocol import Turn
from app.engine.template import ChatTemplate, TemplateFailure, chatml
from quantize.errors import EngineError

TURNS = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello."), Turn("user", "Bye"))
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture
def make() -> Iterator[object]:
    """Makes templates and ends their processes."""
    made: list[ChatTemplate] = []

    def make(source: str | None, **more: str) -> ChatTemplate:
        made.append(ChatTemplate(source, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = type[ChatTemplate]


def test_the_models_template_is_rendered(make: Make) -> None:
    chat = make(CHATML)
    chat.probe()
    assert chat.name == "model" and not chat.note
    assert chat.render(TURNS) == (chatml(TURNS), ())


def test_helpers_that_templates_expect(make: Make) -> None:
    chat = make(
        "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}"
        "{% if ns.n == 2 %}{% break %}{% endif %}{% endfor %}{{ strftime_now('%Y') | length }}"
        "{{ '<é>' | tojson }}{% if tools is defined %}tools{% endif %}",
        bos="<s>",
    )
    text, notes = chat.render(TURNS)
    assert text == ('<s>{"role": "user", "content": "Hi"}{"role": "assistant", "content": "Hello."}4"<é>"')
    assert not notes


def test_without_a_template_chatml_is_used_and_said(make: Make) -> None:
    for source in (None, "", "  "):
        chat = make(source)
        assert chat.name == "chatml" and "no chat template" in chat.note
        assert chat.render(TURNS) == (chatml(TURNS), ())


def test_a_template_that_never_works_is_found_at_the_load(make: Make) -> None:
    for source in ("{% for %}", "{{ raise_exception('never') }}", "{{ messages.nothing.more }}"):
        chat = make(source)
        chat.probe()
        assert chat.name == "chatml" and "fails" in chat.note
        assert chat.render(TURNS) == (chatml(TURNS), ())


def test_a_system_prompt_that_is_refused_goes_into_the_first_message(make: Make) -> None:
    chat = make("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML)
    chat.probe()
    text, notes = chat.render(TURNS)
    assert "Be brief.\n\nHi" in text and "<|im_start|>system" not in text
    assert len(notes) == 1 and chat.name == "model"


def test_a_conversation_that_is_refused_falls_back_once(make: Make) -> None:
    chat = make("{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}" + CHATML)
    text, notes = chat.render(TURNS)
    assert text == chatml(TURNS)
    assert "one only" in notes[0]
    assert chat.name == "model" and chat.render(TURNS[1:2])[1] == ()


BOMBS = {
    "loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "text": "{{ 'x' * 10 ** 10 }}",
    "list": "{% set l = [0] * 10 ** 10 %}",
    "padding": "{{ '%9999999999d' % 1 }}",
    "centred": "{{ 'x' | center(9999999999) }}",
    "output": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "doubling": "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(60) %}{% set ns.s = ns.s + ns.s %}"
    "{% endfor %}{{ ns.s }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "range": "{{ range(10 ** 12) | list }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused(make: Make, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "RENDER_SECONDS", 0.5)
    chat = make(BOMBS[name] + CHATML)
    chat.probe()
    assert chat.name == "chatml" and "fails" in chat.note
    assert chat.note.isprintable()
    assert chat.render(TURNS) == (chatml(TURNS), ())


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.__class__ }}{{ raise_exception.__globals__ }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_the_sandbox_holds(make: Make, source: str) -> None:
    chat = make(source + CHATML)
    text, _ = chat.render(TURNS)
    assert text == chatml(TURNS)


def test_a_bomb_that_needs_a_long_conversation_ends_the_use_of_the_template(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make("{% if messages | length > 2 %}" + BOMBS["loops"] + "{% endif %}" + CHATML)
    chat.probe()
    assert chat.name == "model"
    monkeypatch.setattr(template, "RENDER_SECONDS", 0.5)
    text, notes = chat.render(TURNS)
    assert text == chatml(TURNS)
    assert "from now on" in notes[0] and chat.name == "chatml"


def test_rendering_can_be_stopped(make: Make) -> None:
    chat = make(BOMBS["loops"])
    with pytest.raises(EngineError, match="Stopped"):
        chat.render(TURNS, stopped=lambda: True)
    assert chat.name == "model"  # a stop is not the template's fault


def test_a_process_that_was_killed_is_replaced(make: Make) -> None:
    chat = make(CHATML)
    chat.probe()
    renderer = chat._process
    assert renderer is not None and renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    assert chat.render(TURNS) == (chatml(TURNS), ())
    assert chat.name == "model"


def test_messages_are_data_not_templates(make: Make) -> None:
    chat = make(CHATML)
    text, _ = chat.render((Turn("user", "{{ 7 * 7 }}{% raw %}"),))
    assert "{{ 7 * 7 }}{% raw %}" in text


def test_a_source_without_end_is_not_even_read(make: Make) -> None:
    chat = make("x" * (template.MAX_SOURCE + 1))
    assert chat.name == "chatml" and "long" in chat.note


def test_a_failure_is_one_printable_line(make: Make) -> None:
    chat = make("{{ raise_exception('\\x1b[31mred\\n' * 500) }}")
    with pytest.raises(TemplateFailure) as caught:
        chat._render_own(TURNS, lambda: False)
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 200
