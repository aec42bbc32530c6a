"""Facts are hidden at several depths, asked for one by one, and only the whole right value counts."""

from __future__ import annotations

import math
from random import Random

import pytest

from app.lab.chat_shape import INSTRUCTION, chat_shape
from models.resolve import resolve
from quantize.lab.asking import ask_all
from quantize.lab.facts import KINDS, Fact, is_right, make_facts
from quantize.lab.recall import MAX_FACTS, ChatShape, HiddenFacts, RecallTask, hide_facts, wilson
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Workbench
from quantize.lab.switched import SwitchedSetting
from quantize.lab.text import built_in_text
from tests.lab.conftest import opening_of_file

SHAPE = ChatShape("before ", " between ", " after")
PROSE = "\n\n".join(f"Paragraph {i} says this and that, and nothing else." for i in range(200))


def words(text: str) -> int:
    return len(text.split())


CODE = Fact("the safe", "The code of the safe is 4711.", "What is the code of the safe?", "4711")
LOCKER = Fact(
    "the green locker",
    "The code of the green locker is 93824.",
    "What is the code of the green locker?",
    "93824",
)
COAT = Fact("Eva", "Eva's coat is green.", "What colour is Eva's coat?", "green")
PET = Fact("Ida", "Ida's dog is called Pepper.", "What is the name of Ida's dog?", "Pepper")
CITY = Fact("Ada", "Ada lives in Lima.", "Where does Ada live?", "Lima")
FACTS = [CODE, LOCKER, COAT, PET, CITY]


@pytest.mark.parametrize(
    ("reply", "fact"),
    [
        ("4711", CODE),
        ("The code of the safe is 4711.", CODE),
        ("**4711**, as the text says", CODE),
        ("It's (4711)!", CODE),
        ("PEPPER", PET),
        ("Her dog's name is pepper.", PET),
        ("Ada lives in\nLima", CITY),
        ("The code of the green locker is 93824.", LOCKER),
    ],
)
def test_the_whole_value_counts(reply: str, fact: Fact) -> None:
    assert is_right(reply, fact, FACTS)


@pytest.mark.parametrize(
    ("reply", "fact"),
    [
        ("", CODE),
        ("I don't know.", CODE),
        ("471", CODE),
        ("47 11", CODE),
        ("47115", CODE),
        ("14711", CODE),
        ("4711a", CODE),
        ("4712", CODE),
        ("4711.5", CODE),
        ("24,711", CODE),
        ("2,4711", CODE),
        ("99-4711", CODE),
        ("4711-2", CODE),
        ("Pepp", PET),
        ("Peppermint", PET),
        ("Pepper_", PET),
        ("Limassol", CITY),
        ("Lima or Pepper", CITY),
        ("It is green, and the safe's code is 4711.", COAT),
        ("The code of the green locker is 4711.", LOCKER),
        ("4711, Pepper, Lima", CODE),
        ("The code of the safe is", CODE),
        (CODE.question, CODE),
    ],
)
def test_a_part_a_wrong_value_and_a_list_do_not(reply: str, fact: Fact) -> None:
    assert not is_right(reply, fact, FACTS)


@pytest.mark.parametrize("seed", range(20))
def test_facts_of_a_text_can_be_told_apart(seed: int) -> None:
    facts = make_facts(Random(seed), MAX_FACTS)
    assert len(facts) == MAX_FACTS
    assert len({f.owner for f in facts}) == len({f.value.lower() for f in facts}) == MAX_FACTS
    for fact in facts:
        assert fact.owner.lower() in fact.statement.lower() and fact.owner in fact.question
        assert is_right(fact.statement, fact, facts)
        assert [f for f in facts if is_right(f.value, fact, facts)] == [fact]
        assert not is_right(fact.question, fact, facts)  # the answer does not stand in the question
    assert len({f.statement.split()[0] for f in facts}) > len(KINDS)


@pytest.fixture
def hidden() -> list[HiddenFacts]:
    return list(hide_facts(RecallTask(1000, 30, 8, SHAPE), PROSE, words))


def test_several_facts_stand_at_several_depths(hidden: list[HiddenFacts]) -> None:
    assert [len(t.facts) for t in hidden] == [8, 8, 8, 6]
    firsts = []
    for text in hidden:
        places = [text.text.index(f.statement) / len(text.text) for f in text.facts]
        assert places == sorted(places)
        for k, place in enumerate(places):  # one in each part of the text
            assert (k - 0.1) / len(places) <= place <= (k + 1.1) / len(places)
        assert all(text.text.count(f.statement) == 1 for f in text.facts)
        assert all(is_right(f.statement, f, text.facts) for f in text.facts)
        assert sorted(text.order) == list(range(len(text.facts)))
        assert text.order != sorted(text.order)
        assert 880 <= words(text.text) <= 1000
        firsts.append(places[0])
    assert len(set(firsts)) == 4
    beginnings = {next(p for p in t.text.split("\n\n") if p.startswith("Paragraph")) for t in hidden}
    assert len(beginnings) == 4  # each text is another piece of the prose


def test_every_setting_is_asked_the_same(hidden: list[HiddenFacts]) -> None:
    task = RecallTask(1000, 30, 8, SHAPE)
    assert list(hide_facts(task, PROSE, words)) == hidden
    assert list(hide_facts(RecallTask(1000, 30, 8, SHAPE, seed=1), PROSE, words)) != hidden


def test_an_interval_of_few_questions() -> None:
    """Its ends are the shares p from which hits/n is 1.96 standard deviations, sqrt(p(1-p)/n), away."""
    assert wilson(0, 0) == (0.0, 1.0)
    for hits, n in ((0, 10), (5, 10), (10, 10), (58, 64), (1, 128)):
        low, high = wilson(hits, n)
        assert 0 <= low <= hits / n + 1e-12 and hits / n - 1e-12 <= high <= 1
        for end in (low, high):
            if 1e-9 < end < 1 - 1e-9:
                away = abs(hits / n - end) / math.sqrt(end * (1 - end) / n)
                assert away == pytest.approx(1.959964, rel=1e-6)
    assert wilson(0, 10) == pytest.approx((0.0, 0.27754), abs=1e-5)


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>"


def test_the_template_is_cut_where_text_and_question_go() -> None:
    shape = chat_shape(TEMPLATE, "", "", thinks=False)
    assert shape.before == f"<user>{INSTRUCTION}\n\n"
    assert shape.between.startswith("</user><assistant>") and shape.between.endswith("</assistant><user>")
    assert shape.after == "</user><assistant>"


@pytest.mark.parametrize("begun", [False, True])
def test_a_model_that_thinks_answers_at_once(begun: bool) -> None:
    template = TEMPLATE + ("<think>\n" if begun else "")
    after = chat_shape(template, "", "", thinks=True).after
    assert after == "</user><assistant><think>\n\n</think>\n\n"


@pytest.mark.parametrize("template", ["", "{% broken", "only {{ messages[0].content }}", "nothing"])
def test_a_template_that_does_not_work_is_replaced(template: str) -> None:
    shape = chat_shape(template, "", "", thinks=False)
    assert INSTRUCTION in shape.before and "<|im_start|>assistant" in shape.after


def test_the_built_in_model_finds_facts_and_loses_them_with_a_useless_cache() -> None:
    with Workbench(opening_of_file(resolve("builtin"))) as bench:
        template = bench.model.metadata("tokenizer.chat_template") or ""
        task = RecallTask(120, 12, 4, chat_shape(template, "", "", thinks=False))
        asked: list[int] = []

        def right(setting: Setting) -> list[bool]:
            return ask_all(bench, setting, task, built_in_text(), on_progress=asked.append)

        exact, useless = right(REFERENCE), right(parse_setting("q2_0"))
        restored = right(SwitchedSetting.parse("f16"))  # the same cache, from a saved state each time
    assert asked == [*range(1, 13)] * 3
    assert restored == exact
    assert sum(exact) >= 3 and sum(useless) < sum(exact)
