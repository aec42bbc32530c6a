"""Talking, through the real interface and the real engine."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from textual import events

from app import paths
from app.chat import messages as news
from app.chat.markdown.blocks import codes_in, parse
from app.chat.transcript.full_choice import FullChoice
from app.chat.transcript.notice_line import NoticeLine
from app.chat.transcript.one_line import OneLine
from app.chat.transcript.reply_turn import ReplyTurn
from app.chat.transcript.transcript import MOST
from app.chat.transcript.turn import Turn
from app.store.preferences import Preferences
from tests.chat.conftest import LONG, Chat
from tests.chat.watch import Watch


def notices(watch: Watch) -> list[str]:
    return [notice.text for notice in watch.of(news.Notice)]


async def test_a_message_sent_before_the_model_is_there_waits_and_gets_its_reply(chat: Chat) -> None:
    async with chat() as watch:
        assert watch.session.loaded is None
        await watch.say("hello")
        assert watch.texts("user") == ["hello"]
        (turn,) = watch.app.chat.transcript.query_children(ReplyTurn)
        assert "waits" in turn.query_one(".foot").text  # type: ignore[attr-defined]
        await watch.ready()
        (reply,) = watch.texts("assistant")
        assert reply
        assert watch.app.chat.composer.has_focus
        done = watch.session.page.messages[-1]
        assert (done.state, done.figures.reason) == ("complete", "length")
        assert done.figures.n_generated == 24


async def test_what_is_on_the_page_is_what_is_stored(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say("one")
        await watch.say("two")  # waits for the first reply
        await watch.ready()
        assert watch.texts("user") == ["one", "two"]
        assert len(watch.app.chat.transcript.query_children(Turn)) == 4
        page = watch.session.page
        assert [m.content for m in watch.session.store.branch(page.id)] == watch.texts()
        conversation = page.id
    async with chat(resume=conversation) as again:
        await again.ready()
        assert again.texts("user") == ["one", "two"]


async def test_escape_stops_a_reply_and_f6_goes_on(chat: Chat) -> None:
    async with chat(**LONG) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "talk")
        await watch.pilot.press("escape")
        watch.thaw()
        await watch.ready()
        stopped = watch.session.page.messages[-1]
        assert stopped.state == "stopped"
        assert stopped.content
        await watch.pilot.press("f6")
        await watch.ready()
        longer = watch.session.page.messages[-1]
        assert longer.id == stopped.id
        assert longer.content.startswith(stopped.content)
        assert len(longer.content) > len(stopped.content)


async def test_regenerating_makes_a_branch_that_can_be_walked(chat: Chat) -> None:
    async with chat(temperature=2.0) as watch:
        await watch.say("hello")
        await watch.ready()
        first = watch.texts("assistant")[0]
        await watch.pilot.press("f5")
        await watch.ready()
        second = watch.session.page.messages[-1]
        assert (second.n_siblings, second.sibling_index) == (2, 1)
        await watch.pilot.press("alt+left")
        await watch.pilot.pause()
        assert watch.texts("assistant") == [first]
        await watch.pilot.press("alt+left")  # there is nothing before the first
        assert watch.texts("assistant") == [first]
        await watch.pilot.press("alt+right")
        await watch.pilot.pause()
        assert watch.session.page.messages[-1].id == second.id


async def test_an_earlier_message_is_said_differently(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say("first")
        await watch.say("second")
        await watch.ready()
        await watch.pilot.press("shift+tab", "up", "e")
        await watch.pilot.pause()
        composer = watch.app.chat.composer
        assert composer.has_focus
        assert composer.text == "second"
        await watch.pilot.press("up", "up", "up")
        composer.put("first, again")
        composer.editing = watch.session.page.messages[0].id
        await watch.pilot.press("enter")
        await watch.ready()
        assert watch.texts("user") == ["first, again"]
        await watch.pilot.press("alt+left")
        await watch.pilot.pause()
        assert watch.texts("user") == ["first", "second"]


async def test_the_cache_changes_between_two_tokens_and_is_remembered(chat: Chat) -> None:
    async with chat(**LONG) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "talk")
        await watch.pilot.press("ctrl+t")
        watch.thaw()
        await watch.until(lambda: watch.of(news.CacheSwitched))
        switched = next(i for i, m in enumerate(watch.seen) if isinstance(m, news.CacheSwitched))
        await watch.until(lambda: any(isinstance(m, news.ReplyText) for m in watch.seen[switched:]))
        changed = watch.of(news.CacheSwitched)[0].changed
        assert (changed.type_k, changed.type_v) == ("q8_0", "q8_0")
        assert changed.bytes_after < changed.bytes_before
        assert not changed.reprefilled
        await watch.ready()
        await watch.pilot.press("f7")
        await watch.until(lambda: len(watch.of(news.CacheSwitched)) == 2)
        assert watch.session.cache.now.type_k == "f16"
        await watch.say("/kv q8_0/q4_0")
        await watch.until(lambda: len(watch.of(news.CacheSwitched)) == 3)
        stored = Preferences(watch.session.preferences.path, watch.session.store)
        kept = stored.resolve(model=watch.session.model, conversation=watch.session.page.id)
        assert (kept.type_k, kept.type_v) == ("q8_0", "q4_0")
        lines = watch.app.chat.transcript.query_children(NoticeLine)
        assert len(lines) == 3


async def test_going_up_says_that_precision_does_not_come_back(chat: Chat) -> None:
    async with chat(type_k="q4_0", type_v="q4_0") as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say("/kv f16")
        await watch.until(lambda: watch.of(news.CacheSwitched))
        await watch.pilot.pause()
        assert watch.of(news.CacheSwitched)[0].went_up
        (line,) = watch.app.chat.transcript.query_children(NoticeLine)
        assert [action.command for action in line.notice.actions] == ["/undo", "/reprefill"]
        assert line.notice.text.count("does not come back") == 1
        await watch.pilot.press("f8")
        await watch.until(lambda: len(watch.of(news.CacheSwitched)) == 2)
        assert watch.of(news.CacheSwitched)[1].changed.reprefilled
        assert " instead of " not in watch.of(news.CacheSwitched)[1].changed.sentence


async def test_the_length_changes_without_losing_the_conversation(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say("/ctx 2k")
        await watch.until(lambda: watch.of(news.CacheSwitched))
        assert watch.session.cache.now.n_ctx == 2048
        await watch.say("and now?")
        await watch.ready()
        assert watch.session.page.messages[-1].figures.n_cached > 0


async def test_a_full_context_asks_and_goes_on_as_it_is_told(chat: Chat) -> None:
    async with chat(n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        await watch.until(lambda: watch.of(news.SpaceRanOut))
        await watch.pilot.pause()
        choice = watch.app.chat.transcript.query_one(FullChoice)
        assert choice.has_focus
        actions = [option.action for option in choice.full.options]
        assert "longer" in actions
        await watch.pilot.press(str(actions.index("longer") + 1))
        await watch.ready()
        assert watch.texts("assistant")[-1]
        assert watch.session.cache.now.n_ctx > 256
        assert not watch.app.chat.transcript.query(FullChoice)


async def test_a_full_context_can_be_left_alone(chat: Chat) -> None:
    async with chat(n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        await watch.until(lambda: watch.of(news.SpaceRanOut))
        await watch.pilot.pause()
        await watch.pilot.press("escape")
        await watch.ready()
        assert watch.texts("assistant") == []
        assert watch.app.chat.composer.has_focus
        await watch.say("/ctx 2048")
        await watch.until(lambda: watch.of(news.CacheSwitched))
        await watch.pilot.press("f5")
        await watch.ready()
        assert watch.texts("assistant")[-1]


async def test_a_reply_without_a_word_is_begun_again_below_its_question(chat: Chat) -> None:
    async with chat(n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        for n in (1, 2):
            await watch.until(lambda n=n: len(watch.of(news.SpaceRanOut)) == n)
            assert [m.role for m in watch.session.page.messages] == ["user", "assistant"]
            assert len(watch.session.store.branch(watch.session.page.id)) == 2
            await watch.pilot.press("f5")


@pytest.mark.parametrize("key", ["f5", "f6"])
async def test_a_reply_of_which_a_killed_process_left_nothing(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    async with chat(n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        await watch.until(lambda: watch.of(news.SpaceRanOut))
        path, id = watch.app.store.path, watch.session.page.id
        left = tmp_path / "left" / path.relative_to(tmp_path / "home")
        left.parent.mkdir(parents=True)
        with closing(sqlite3.connect(path)) as at_the_kill, closing(sqlite3.connect(left)) as copy:
            at_the_kill.backup(copy)
    monkeypatch.setenv("STRETCH_HOME", str(tmp_path / "left"))
    async with chat(resume=id, n_ctx=2048) as watch:
        await watch.ready()
        assert watch.texts("assistant") == [""]
        foot = watch.app.chat.transcript.query_one(ReplyTurn).query_one(".foot", OneLine)
        assert foot.text == "no word of it was written; F6 begins it"
        await watch.pilot.press(key)
        await watch.ready()
        reply = watch.session.page.messages[-1]
        assert reply.content and reply.state == "complete"
        assert reply.n_siblings == 1  # nothing empty is left beside it


async def test_an_unknown_command_is_not_sent_and_not_lost(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        await watch.say("/regnerate")
        assert watch.texts() == []
        assert watch.app.chat.composer.text == "/regnerate"
        assert "Did you mean /regenerate?" in notices(watch)[-1]


async def test_a_file_is_attached_and_told_to_the_model(chat: Chat, home: Path) -> None:
    (home / "notes.md").write_text("a fact", encoding="utf-8")
    (home / "data.bin").write_bytes(b"\0\1")
    async with chat() as watch:
        await watch.ready()
        await watch.say("look at @data.bin")
        assert watch.texts() == []
        assert "is not text" in notices(watch)[-1]
        await watch.say("read @notes.md")
        await watch.ready()
        (attachment,) = watch.session.page.messages[0].attachments
        assert (attachment.name, attachment.text) == ("notes.md", "a fact")
        assert "a fact" in watch.session.page.prompt(0, "")[0].content


async def test_export_writes_what_was_said(chat: Chat, home: Path) -> None:
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say("/export json")
        await watch.say("/export md")
        assert [kind for kind in notices(watch) if kind.startswith("Written to")][-1]
        data = json.loads((home / "hello.json").read_text(encoding="utf-8"))
        assert [m["content"] for m in data["messages"]] == watch.texts()
        assert (home / "hello.md").exists()


async def test_a_deleted_conversation_comes_back(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say("/delete")
        assert watch.texts() == []
        assert watch.session.store.count() == 0
        await watch.say("/restore")
        assert watch.texts("user") == ["hello"]


async def test_ctrl_c_copies_stops_or_says_how_to_leave(chat: Chat) -> None:
    """In this order, while the input has the focus."""
    async with chat(max_tokens=1200) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "hello")
        await watch.pilot.press(*"ab", "shift+left", "ctrl+c")
        assert watch.app.clipboard == "b" and watch.session.busy
        await watch.pilot.press("right", "ctrl+c")
        watch.thaw()
        await watch.ready()
        assert watch.of(news.ReplyDone)[-1].reason == "stopped"
        await watch.pilot.press("ctrl+c")
        assert notices(watch)[-1] == "Everything is saved."
        assert watch.app.chat.composer.text == "ab"


async def test_the_answer_to_a_command_is_seen_wherever_the_page_stands(chat: Chat) -> None:
    async with chat((80, 24)) as watch:
        await watch.ready()
        transcript = watch.app.chat.transcript
        for n in range(40):
            watch.session.notify(f"quiet line {n}")
        await watch.pilot.pause()
        transcript.scroll_to(y=0, animate=False)
        await watch.pilot.pause()
        assert not transcript.follows
        watch.session.notify("this moves nothing")
        await watch.pilot.pause()
        assert not transcript.follows
        await watch.say("/set temperature")
        for _ in range(3):
            await watch.pilot.pause()
        assert transcript.follows


async def test_a_command_that_takes_nothing_does_not_swallow_a_sentence(chat: Chat) -> None:
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say("/delete the second paragraph")
        assert "To say this to the model, begin with //delete." in notices(watch)[-1]
        assert watch.session.store.count() == 1


async def test_the_last_reply_is_copied_wherever_the_page_stands(chat: Chat) -> None:
    """Quiet lines push a reply out of what is drawn; it is still the last one."""
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        for _ in range(2 * MOST):
            watch.session.notify("a quiet line")
        await watch.pilot.pause()
        assert not watch.app.chat.transcript.query_children(ReplyTurn)
        await watch.say("/copy")
        assert watch.app.clipboard == watch.texts("assistant")[0]


async def test_code_is_copied_from_lists_as_well(chat: Chat) -> None:
    text = "1. first\n\n   ```sh\n   ls\n   ```\n\n> ```\n> quoted\n> ```"
    assert [code.source for code in codes_in(parse(text))] == ["ls", "quoted"]


async def test_the_engine_starts_again_when_it_is_told_to(chat: Chat) -> None:
    """Even if it does not answer any more, and with the settings as they are then."""
    async with chat(n_threads=2) as watch:
        await watch.ready()
        await watch.say("hello")
        await watch.ready()
        first = watch.session.life.link.pid
        watch.strike(signal.SIGSTOP)
        await watch.say("are you there?")
        await watch.say("/set n_threads 1")
        await watch.say("/restart")
        await watch.until(lambda: watch.session.life.link.pid != first)
        await watch.ready()
        assert watch.session.life.plan is not None and watch.session.life.plan.n_threads == 1
        await watch.say("and now?")
        await watch.ready()
        assert watch.texts("user")[-1] == "and now?" and watch.texts("assistant")[-1]


async def test_a_theme_that_is_none_is_refused_however_it_is_set(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        for command in ("/theme bogus", "/set theme bogus"):
            await watch.say(command)
            assert notices(watch)[-1].startswith("There is no theme called bogus.")
        assert watch.session.settings.theme == "stretch"


async def test_figures_of_another_model_are_not_shown(chat: Chat, home: Path) -> None:
    (home / "broken.gguf").write_bytes(b"GGUF, or not")
    async with chat() as watch:
        await watch.ready()
        await watch.until(lambda: watch.session.status is not None)
        await watch.say("/model broken.gguf")
        await watch.until(lambda: watch.session.phase == "stopped")
        await watch.say("/stats")
        assert notices(watch)[-1] == "There are no figures yet."


@pytest.mark.parametrize("value", ["0.2", "nonsense"])
async def test_settings_are_changed_and_checked(chat: Chat, value: str) -> None:
    async with chat() as watch:
        await watch.say("hello")
        await watch.ready()
        await watch.say(f"/set top_p {value}")
        if value == "0.2":
            assert watch.session.settings.top_p == 0.2
        else:
            assert watch.session.settings.top_p == 0.95
            assert watch.of(news.Notice)[-1].kind == "error"


async def test_threads_change_at_once_and_after_a_restart(chat: Chat) -> None:
    """In the engine that runs, and in the next one; no model is loaded for it."""

    def threads() -> tuple[int, int]:
        status = watch.session.status
        return (status.n_threads, status.most_threads) if status is not None else (0, 0)

    async with chat(adapt_threads=False) as watch:
        await watch.say("hello")
        await watch.ready()
        loads = len(watch.of(news.ModelChanged))
        await watch.say("/set n_threads 3")
        await watch.until(lambda: threads() == (3, 3))
        assert len(watch.of(news.ModelChanged)) == loads
        watch.strike(signal.SIGKILL)
        await watch.until(lambda: len(watch.of(news.ModelChanged)) > loads)
        await watch.until(lambda: threads() == (3, 3))


async def test_a_model_that_is_not_there_leaves_the_chat_usable(chat: Chat, small_model: Path) -> None:
    async with chat(model="no-such-model") as watch:
        await watch.until(lambda: watch.session.phase == "stopped")
        await watch.say("hello")
        assert watch.texts("user") == ["hello"]
        await watch.say(f"/model {small_model}")
        await watch.ready()
        assert watch.texts("assistant")[0]


async def test_keys_take_effect_in_the_order_in_which_they_came(chat: Chat) -> None:
    async with chat() as watch:
        composer = watch.app.chat.composer
        for key in ("a", "b", "backspace", "c", "left", "x", "ctrl+u", "y", "ctrl+j", "z", "home", "1"):
            character = key if len(key) == 1 else None
            watch.app.post_message(events.Key(key, character))  # all at once, as from a busy terminal
        await watch.pilot.pause()
        await watch.pilot.pause()
        assert composer.text == "y\n1zc"


async def test_a_question_longer_than_the_page_shows_what_is_marked(chat: Chat) -> None:
    """80x24 is a usual terminal: nobody chooses what cannot be seen."""
    async with chat((80, 24), n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        await watch.until(lambda: watch.of(news.SpaceRanOut))
        for _ in range(3):
            await watch.pilot.pause()
        transcript = watch.app.chat.transcript
        choice = transcript.query_one(FullChoice)
        assert choice.virtual_region.height > transcript.size.height
        for place in (*range(len(choice.full.options) + 1), 0):
            first, last = choice.marked
            top = choice.virtual_region.y - round(transcript.scroll_y)
            assert 0 <= top + first <= top + last < transcript.size.height, place
            assert place or first == 0, "the question itself"
            await watch.pilot.press("down")
            await watch.pilot.pause()
        await watch.pilot.resize_terminal(70, 20)
        for _ in range(3):
            await watch.pilot.pause()
        first, last = choice.marked
        top = choice.virtual_region.y - round(transcript.scroll_y)
        assert 0 <= top + first <= top + last < transcript.size.height
        await watch.pilot.press("escape")
        await watch.ready()
        assert transcript.follows


async def test_a_theme_in_the_settings_that_is_none_is_said(chat: Chat) -> None:
    async with chat(theme="bogus") as watch:
        await watch.ready()
        said = [entry.notice.text for entry in watch.app.chat.transcript.entries if entry.notice]
        assert "There is no theme called bogus." in said


async def test_a_smaller_terminal_still_shows_what_is_marked(chat: Chat) -> None:
    async with chat((140, 50), n_ctx=256) as watch:
        await watch.ready()
        await watch.say("word " * 600)
        await watch.until(lambda: watch.of(news.SpaceRanOut))
        await watch.pilot.resize_terminal(80, 24)
        for _ in range(3):
            await watch.pilot.pause()
        transcript = watch.app.chat.transcript
        choice = transcript.query_one(FullChoice)
        assert choice.virtual_region.y == round(transcript.scroll_y)
        await watch.pilot.press("escape")
        await watch.ready()


async def test_what_was_found_at_the_start_stands_on_the_page(chat: Chat) -> None:
    """A damaged database and mistakes in the settings must not be said to an empty room."""
    paths.database_path().parent.mkdir(parents=True)
    paths.database_path().write_bytes(b"no database at all" * 1000)
    paths.settings_path().parent.mkdir(parents=True)
    paths.settings_path().write_text("bogus = 3\n", encoding="utf-8")
    async with chat() as watch:
        await watch.ready()
        said = [entry.notice.text for entry in watch.app.chat.transcript.entries if entry.notice]
        assert any("was damaged" in text for text in said)
        assert any("bogus" in text for text in said)


async def test_what_reorders_or_commands_a_terminal_is_not_drawn_in_the_input(chat: Chat) -> None:
    async with chat() as watch:
        composer = watch.app.chat.composer
        composer.put("ab\u202ecd\u2066e\x1b]0;x\x07f\u200fg\ud800h")
        await watch.pilot.pause()
        drawn = "".join(composer.render_line(y).text for y in range(composer.size.height))
        assert drawn.replace("\u200b", "").strip() == "abcde]0;xfg\ufffdh"
        assert composer.text.startswith("ab\u202ecd")  # it can be a name of a file
        composer.move_cursor((0, 2))
        await watch.pilot.press("delete", "x")
        assert composer.text.startswith("abxcd")
