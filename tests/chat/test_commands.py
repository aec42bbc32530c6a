"""The slash commands: what is one, what it means, and that every way to do a thing exists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from textual.keys import Keys

from app.chat.commander import Commander
from app.chat.commands import BY_NAME, COMMANDS, Call, UnknownCommand, nearest, parse, unescape
from app.chat.keys import key_name

NAMES = sorted(BY_NAME)
words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)


@given(st.sampled_from(NAMES), st.text(max_size=60))
def test_a_command_keeps_what_follows_it(name: str, args: str) -> None:
    call = parse(f"/{name} {args}")
    assert isinstance(call, Call)
    assert call.command is BY_NAME[name]
    assert call.args == args.strip()


@given(st.sampled_from(NAMES))
def test_case_does_not_matter(name: str) -> None:
    assert parse(f"/{name.upper()}") == parse(f"/{name}") == Call(BY_NAME[name], "")


@given(st.text(max_size=80))
def test_every_text_is_a_command_or_unknown_or_something_to_say(text: str) -> None:
    found = parse(text)
    if not text.startswith("/"):
        assert found is None
    if isinstance(found, UnknownCommand):
        assert found.name.lower() not in BY_NAME
        assert found.nearest in ("", *BY_NAME)


@given(st.text(max_size=40))
def test_a_second_slash_says_that_it_is_meant_for_the_model(text: str) -> None:
    assert parse(f"//{text}") is None
    assert unescape(f"//{text}") == f"/{text}"


@given(words, words)
def test_paths_are_no_commands(first: str, second: str) -> None:
    assert parse(f"/{first}/{second} what is this?") is None


@given(st.sampled_from([n for n in NAMES if len(n) > 3]), st.data())
def test_one_slip_of_the_finger_finds_the_command(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(name) - 1))
    mistyped = name[:at] + "q" + name[at:]
    if mistyped not in BY_NAME:
        assert nearest(mistyped) == name


def test_the_start_of_one_command_is_enough_to_suggest_it() -> None:
    assert nearest("rege") == "regenerate"
    assert nearest("xyzzy") == ""


def test_every_command_can_be_run() -> None:
    for command in COMMANDS:
        assert callable(getattr(Commander, f"do_{command.name}")), command.name
    methods = {name.removeprefix("do_") for name in dir(Commander) if name.startswith("do_")}
    assert methods == {command.name for command in COMMANDS}


def test_no_two_commands_share_a_name_or_a_key() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    keys = [command.key for command in COMMANDS if command.key]
    assert len(names) == len(set(names))
    assert len(keys) == len(set(keys))


def test_keys_are_keys_that_textual_knows() -> None:
    known = {key.value for key in Keys} | {"alt+right", "alt+left"}
    for command in COMMANDS:
        assert not command.key or command.key in known, command.key
        assert command.key == "" or key_name(command.key)
