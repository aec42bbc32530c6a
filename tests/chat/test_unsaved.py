"""The disk is full, the database locked, the conversation deleted elsewhere: the chat goes on."""

from __future__ import annotations

import signal

from textual.message import Message

from app.chat import messages as news
from app.chat.messages import Notice
from app.store.store import Store
from tests.chat.conftest import Chat
from tests.chat.watch import Watch


def read_only(watch: Watch, on: bool = True) -> None:
    """Let SQLite refuse every write, as it does on a full disk."""
    with watch.app.store._db.read() as c:
        c.execute(f"PRAGMA query_only = {int(on)}")


def complaints(watch: Watch) -> list[str]:
    return [notice.text for notice in watch.of(Notice) if notice.kind == "error"]


async def test_what_cannot_be_stored_goes_back_to_the_input(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        read_only(watch)
        await watch.say("a question that took long to write")
        await watch.until(lambda: complaints(watch))
        assert "cannot be written" in complaints(watch)[0]
        assert watch.app.chat.composer.text == "a question that took long to write"
        read_only(watch, False)
        await watch.pilot.press("enter")
        await watch.until(lambda: watch.of(news.ReplyDone))
        assert watch.texts("user") == ["a question that took long to write"]


async def test_a_reply_that_cannot_be_stored_stays_and_is_stored_later(chat: Chat) -> None:
    async with chat(max_tokens=400) as watch:
        await watch.ready()

        def first_words(message: Message) -> bool:
            if isinstance(message, news.ReplyText):
                read_only(watch)  # here, before the end of the reply can be stored
                return True
            return False

        watch.strike_at(first_words, signal.SIGCONT)  # which changes nothing
        await watch.say("hello")
        await watch.until(lambda: watch.of(news.ReplyDone))
        written = watch.texts("assistant")[0]
        assert written and len(watch.session.talk.unsaved) == 1
        reply = watch.session.page.messages[-1].id
        assert watch.app.store.message(reply).content != written
        read_only(watch, False)
        await watch.until(lambda: not len(watch.session.talk.unsaved))
        assert watch.app.store.message(reply).content == written
        await watch.until(lambda: any("saved now" in notice.text for notice in watch.of(Notice)))


async def test_leaving_warns_before_it_loses_a_reply(chat: Chat) -> None:
    async with chat(max_tokens=1200) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "hello")
        read_only(watch)
        await watch.pilot.press("ctrl+q")
        await watch.until(lambda: any("leaving now loses it" in notice.text for notice in watch.of(Notice)))
        assert watch.app.is_running
        read_only(watch, False)
        watch.thaw()
        await watch.pilot.press("ctrl+q")
    store = Store(watch.app.store.path)
    (conversation,) = store.conversations()
    assert store.branch(conversation.id)[-1].content
    store.close()


async def test_a_message_that_waits_is_stored_when_the_person_leaves(chat: Chat) -> None:
    async with chat(max_tokens=1200) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "hello")
        await watch.say("and another thing")
        await watch.pilot.press("ctrl+q")
        watch.thaw()
    store = Store(watch.app.store.path)
    (conversation,) = store.conversations()
    said = [m.content for m in store.branch(conversation.id) if m.role == "user"]
    assert said == ["hello", "and another thing"]
    store.close()


async def test_an_engine_that_does_not_stop_can_be_started_again(chat: Chat) -> None:
    async with chat(max_tokens=1200) as watch:
        await watch.ready()
        await watch.frozen_at(news.ReplyText, "hello")
        await watch.pilot.press("escape")
        await watch.pilot.press("escape")
        notice = watch.of(Notice)[-1]
        assert "has not answered yet" in notice.text
        assert [action.command for action in notice.actions] == ["/restart"]
        watch.thaw()
        await watch.ready()


async def test_wishes_that_the_store_refuses_are_sentences(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        await watch.say("hello")
        await watch.until(lambda: watch.of(news.ReplyDone))
        read_only(watch)
        for wish in (
            news.RegenerateWanted(watch.session.page.messages[-1].id),
            news.RenameWanted(watch.session.page.id, "another"),
            news.ModelWanted(watch.session.model),
            news.DeleteWanted(watch.session.page.id),
        ):
            before = len(complaints(watch))
            watch.app.post_message(wish)
            await watch.until(lambda before=before: len(complaints(watch)) > before)
        read_only(watch, False)
        await watch.ready()
        assert watch.app.is_running


async def test_a_conversation_that_another_window_deleted(chat: Chat) -> None:
    """Speaking brings it back; once it is gone for good the text is not."""
    async with chat() as watch:
        await watch.ready()
        await watch.say("hello")
        await watch.until(lambda: len(watch.of(news.ReplyDone)) == 1)
        other = Store(watch.app.store.path)
        other.delete(watch.session.page.id)
        await watch.say("still here?")
        await watch.until(lambda: len(watch.of(news.ReplyDone)) == 2)
        other.close()
        assert watch.app.store.count() == 1
        other = Store(watch.app.store.path)
        other.delete(watch.session.page.id)
        other.close()
        await watch.say("and now?")
        await watch.until(lambda: complaints(watch))
        assert "deleted meanwhile" in complaints(watch)[0]
        assert watch.app.chat.composer.text == "and now?"
