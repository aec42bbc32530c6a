"""The practice that the training makes up: its answers are right, and its weights lie on the right words."""

from __future__ import annotations

import re
from random import Random

import pytest

from models.training import corpus
from models.training.chatml import Turn, encode_chat, encode_document
from models.training.config import Mixture
from models.training.tasks import arithmetic, facts, identity, language, recall
from models.training.tasks_registry import SHORT


class Letters:
    """A tokenizer of single characters."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]


def pairs(turns: list[Turn]) -> list[tuple[str, str]]:
    """Questions with their answers."""
    assert [t.role for t in turns] == ["user", "assistant"] * (len(turns) // 2)
    return [(q.text, a.text) for q, a in zip(turns[::2], turns[1::2], strict=True)]


def filler(rng: Random, n_chars: int) -> str:
    """Ordinary paragraphs."""
    return "\n\n".join("The wind went on." for _ in range(n_chars // 19 + 1))


def test_sums_are_right() -> None:
    rng = Random(1)
    checked = 0
    for _ in range(3000):
        for ask, answer in pairs(arithmetic.make(rng)):
            equation = re.search(r"(\d+) ([-+*]) (\d+) = (-?\d+)", answer)
            if equation:
                a, sign, b, c = equation.groups()
                assert int(c) == {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign], (
                    answer
                )
                assert {a, b} <= set(re.findall(r"\d+", ask)), (ask, answer)
                checked += 1
            spoken = re.fullmatch(r"(?:(\d+) (plus|minus|times) (\d+) is|The answer is) (-?\d+)\.", answer)
            if spoken and spoken[1]:
                a, b = int(spoken[1]), int(spoken[3])
                assert int(spoken[4]) == {"plus": a + b, "minus": a - b, "times": a * b}[spoken[2]]
                checked += 1
            elif spoken:
                numbers = [int(n) for n in re.findall(r"\d+", ask)]
                assert int(spoken[4]) in {
                    numbers[0] + numbers[1], numbers[0] - numbers[1], numbers[1] - numbers[0]
                }, (ask, answer)  # fmt: skip
            larger = re.fullmatch(r"(\d+) is (larger|smaller) than (\d+)\.", answer)
            if larger:
                assert (int(larger[1]) > int(larger[3])) == (larger[2] == "larger")
            if ask.startswith("Subtract"):
                b, a = map(int, re.findall(r"\d+", ask))
                assert re.findall(r"-?\d+", answer)[-1] == str(a - b)
            if "difference" in ask:
                a, b = map(int, re.findall(r"\d+", ask))
                assert answer == f"The difference is {abs(a - b)}."
    assert checked > 3000


def test_held_out_sums_are_never_practised() -> None:
    rng = Random(2)
    asked = 0
    for _ in range(2000):
        for ask, answer in pairs(arithmetic.make(rng)):
            numbers = [int(n) for n in re.findall(r"\d+", ask)]
            if (
                len(numbers) == 2
                and not answer.endswith(("larger than", "smaller than"))
                and "number" not in ask
            ):
                a, b = (
                    numbers[::-1] if "Subtract" in ask or "take" in ask or "add" in ask.split() else numbers
                )
                if (
                    "times" not in ask
                    and "*" not in ask
                    and " x " not in ask
                    and "Multiply" not in ask
                    and "Count" not in ask
                ):
                    assert not arithmetic.is_held_out(a, b), ask
                    asked += 1
    assert asked > 1000
    assert (
        0.05 < sum(arithmetic.is_held_out(a, b) for a in range(10, 100) for b in range(10, 100)) / 8100 < 0.15
    )


def test_spelling_sorting_and_counting_are_right() -> None:
    rng = Random(3)
    for _ in range(2000):
        for ask, answer in pairs(language.make(rng)):
            if found := re.fullmatch(r"(\w+) is spelled ([A-Z-]+)\.", answer):
                assert found[2].replace("-", "").lower() == found[1].lower()
            elif found := re.fullmatch(r"The word (\w+) has (\d+) letters\.", answer):
                assert len(found[1]) == int(found[2])
            elif ask.startswith("Sort these words"):
                words = answer.split(", ")
                assert words == sorted(words) and set(words) == set(ask.split(": ")[1].split(", "))
            elif ask.startswith("Sort these numbers"):
                numbers = [int(n) for n in answer.split(", ")]
                assert numbers == sorted(numbers, reverse="largest to smallest" in ask)
                assert sorted(numbers) == sorted(int(n) for n in re.findall(r"\d+", ask))
            elif found := re.fullmatch(r"There are (\d+) words in the list\.", answer):
                assert len(ask.split(": ")[1].split(", ")) == int(found[1])
            elif ask.startswith("Say these words backwards"):
                assert answer.rstrip(".").split(", ") == ask.split(": ")[1].split(", ")[::-1]


def test_facts_have_different_owners_and_their_sentences_hold_the_value() -> None:
    rng = Random(4)
    for _ in range(300):
        told = facts.distinct(rng, 8)
        assert len({f.owner.lower() for f in told}) == 8
        for fact in told:
            assert fact.value in fact.tell(rng) and fact.value in fact.answer(rng)
            assert fact.value.lower() not in fact.ask(rng).lower().replace(fact.owner.lower(), "")
            new, sentence = fact.change(rng)
            assert new.value != fact.value and new.owner == fact.owner and new.value in sentence


def test_the_assistant_speaks_of_your_things() -> None:
    assert facts.second_person("My hat is in my house.") == "Your hat is in your house."


@pytest.mark.parametrize("shape", ["pasted", "chatted"])
def test_answers_about_facts_follow_the_last_thing_told(shape: str) -> None:
    """Every question is answered with the value that stood last in the conversation before it."""
    rng = Random(5)
    asked = 0
    for _ in range(60):
        if shape == "pasted":
            turns = recall.pasted(rng, 3000, filler)
        else:
            turns = recall.chatted(rng, 3000, filler, lambda r: [])
        before = ""
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            before += question.text + "\n"
            for kind, pattern in (("code", r"code (?:of|for) (.+?) is (\d+)\."),):
                found = re.fullmatch(f"[Tt]he {pattern}", answer.text)
                if kind and found:
                    told = re.findall(rf"{re.escape(found[1])}[^.\n]*?(\d+)\b", before, re.IGNORECASE)
                    assert told and told[-1] == found[2], (answer.text, told)
                    asked += 1
    assert asked > 10


def test_pasted_text_is_learned_and_facts_are_not() -> None:
    rng = Random(6)
    for _ in range(50):
        for turn in recall.pasted(rng, 2000, filler):
            if turn.parts:
                assert "".join(text for text, _ in turn.parts) == turn.text
                assert all(
                    set(text.split()) <= {"The", "wind", "went", "on."} for text, learn in turn.parts if learn
                )
                assert not any("wind went" in text for text, learn in turn.parts if not learn)
                assert all(
                    text.endswith("\n\n") or after.startswith(" ")
                    for (text, _), (after, _) in zip(turn.parts, turn.parts[1:], strict=False)
                )


def test_weights_lie_on_the_learned_words() -> None:
    turns = [
        Turn("user", "ab c", learn=False, parts=(("ab", True), (" c", False))),
        Turn("assistant", "de"),
        Turn("user", "fg", learn=False),
        Turn("user", "hi"),
    ]
    tokens, weights = encode_chat(turns, Letters(), weight=3)
    assert len(tokens) == len(weights)
    said = [(chr(t) if t > 2 else "<>|"[t], w) for t, w in zip(tokens, weights, strict=True) if w]
    assert said == [("a", 1), ("b", 1), ("d", 3), ("e", 3), ("|", 3), ("h", 1), ("i", 1)]
    text = "".join(chr(t) if t > 2 else "<>|"[t] for t in tokens)
    assert text == ">user\nab c|\n>assistant\nde|\n>user\nfg|\n>user\nhi|\n"


def test_a_document_is_learned_with_its_end() -> None:
    assert encode_document("ab", Letters()) == ([97, 98, 0], [1, 1, 1])


def test_held_out_documents_are_few_and_chosen_by_their_text_alone() -> None:
    documents = [corpus.Document(f"text {i}", "story", "a") for i in range(20_000)]
    out = {d.text for d in documents if d.held_out}
    assert 60 < len(out) < 140
    assert out == {d.text for d in documents if corpus.Document(d.text, "docs", "b").held_out}


def test_a_conversation_of_the_corpus_is_read_by_its_speakers() -> None:
    turns = corpus.turns("User: a\nb\nAssistant: c\nUser: d")
    assert [(t.role, t.text) for t in turns] == [("user", "a\nb"), ("assistant", "c"), ("user", "d")]


def test_the_model_says_what_it_is_but_never_practises_the_examination() -> None:
    rng = Random(7)
    tests = {q.lower().rstrip(".?") for q in identity.TEST}
    assert len(tests) == 20
    asked = set()
    modest = 0
    for _ in range(4000):
        for ask, answer in pairs(identity.make(rng)):
            asked.add(ask)
            modest += identity.is_modest(answer)
            assert ask.lower().rstrip(".?") not in tests
            assert "{" not in ask + answer
    assert modest > 4000 and len(asked) > 3000
    assert not identity.is_modest("I am a large model.")


def test_every_share_of_the_mixture_has_a_generator_and_they_add_up() -> None:
    from dataclasses import asdict

    from models.training.config import RUNS

    assert set(asdict(Mixture())) == {"corpus", "recall", *SHORT}
    for run in RUNS.values():
        for mixture in (run.mixture, run.long_mixture):
            assert sum(asdict(mixture).values()) == pytest.approx(1)


def test_the_sums_that_are_held_out_have_nothing_in_common() -> None:
    """A rule modulo ten would hide every sum that ends with the same digit: that would have to be guessed."""
    out = [(a, b) for a in range(10, 100) for b in range(10, 100) if arithmetic.is_held_out(a, b)]
    for last in range(10):
        assert 0.03 < sum((a + b) % 10 == last for a, b in out) / len(out) < 0.25
        assert 0.03 < sum(a % 10 == last for a, _ in out) / len(out) < 0.25
    assert all(arithmetic.is_held_out(b, a) for a, b in out)


def test_texts_that_contradict_the_generators_are_not_learned() -> None:
    a, b = next((a, b) for a in range(10, 100) for b in range(10, 100) if arithmetic.is_held_out(a, b))
    for text in (f"that is {a} + {b} dollars", f"she adds {b}+{a}", f"{b} minus {a}", f"{a} plus {b} is"):
        assert corpus.contradicts(corpus.Document(text, "instruction", "openai/grade-school-math")), text
    for text in (f"in {a}{b}", f"{a}.5 + {b}", f"1{a} + {b}", "12 and some"):
        assert not corpus.contradicts(corpus.Document(text, "story", "a book")), text
    who = "User: Are you a robot?\nAssistant: I am digital."
    assert corpus.contradicts(corpus.Document(who, "dialogue", "ntulsi/BotBuilder-PersonalityChat"))
    assert not corpus.contradicts(corpus.Document(who, "story", "a book"))
    assert not corpus.contradicts(
        corpus.Document("User: hi\nAssistant: Are you a robot?", "dialogue", "gunthercox/chatterbot-corpus")
    )
