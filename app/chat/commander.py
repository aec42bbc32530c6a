"""Does what a slash command says. Keys, the palette and the footer come through here as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.chat import format
from app.chat.commands import Call, UnknownCommand, parse
from app.chat.completion import Candidate
from app.chat.messages import Action
from app.lengths import parse_length
from app.plain_text import one_line
from app.store.settings import SETTINGS
from models.stretch_row import StretchRow
from quantize.errors import StretchError, UsageError

if TYPE_CHECKING:
    from app.chat.app import StretchApp
    from app.chat.session import Session


TAILS = (
    ("auto", "256 beside types of less than 8 bits"),
    ("off", "none: the least memory"),
    ("128", ""),
    ("256", ""),
    ("512", ""),
    ("1024", ""),
)
"""Windows that are offered behind ``/tail``."""


def _reach(row: StretchRow) -> str:
    return f"could reach {format.count(row.max_ctx)} tokens"


class Commander:
    """One method per command; they find the screens through the application."""

    def __init__(self, app: StretchApp) -> None:
        self._app = app
        self._warned = False
        self._methods: dict[str, Callable[[str], None]] = {
            name.removeprefix("do_"): getattr(self, name) for name in dir(self) if name.startswith("do_")
        }

    @property
    def _session(self) -> Session:
        return self._app.session

    def run(self, text: str) -> bool:
        """Run ``text`` if it is a command. False if it is something to say, or no command is like it."""
        call = parse(text)
        if isinstance(call, UnknownCommand):
            meant = f" Did you mean /{call.nearest}?" if call.nearest else " F1 lists them all."
            action = (Action(f"/{call.nearest}", f"/{call.nearest}"),) if call.nearest else ()
            self._session.notify(f"There is no command /{one_line(call.name, 40)}.{meant}", "warning", action)
            return False
        if call is None:
            return False
        self.call(call)
        return True

    def call(self, call: Call) -> None:
        """Run a command that was read already."""
        if call.command.needs_args and not call.args:
            self._app.chat.composer.put(f"/{call.command.name} ")
            self._app.chat.composer.focus()
            return
        try:
            if call.args and not call.command.takes_args:
                raise UsageError(
                    f"/{call.command.name} takes nothing behind it.",
                    f"To say this to the model, begin with //{call.command.name}.",
                )
            self._methods[call.command.name](call.args)
        except StretchError as error:
            self._session.complain(error)

    # ---------------------------------------------------------------- the cache

    def do_kv(self, args: str) -> None:
        if not args:
            self._app.open_cache_chooser()
            return
        from app.chat.cache_control import parse_setting

        type_k, type_v, tail = parse_setting(args)
        self._session.set_cache(type_k, type_v, tail=tail)

    def do_next(self, args: str) -> None:
        self._session.next_preset()

    def do_ctx(self, args: str) -> None:
        if not args:
            self._app.open_length_chooser()
            return
        self._session.set_ctx(parse_length(args))

    def do_tail(self, args: str) -> None:
        from quantize.cache_types import parse_tail

        self._session.set_tail(parse_tail(args))

    def do_prune(self, args: str) -> None:
        from app.chat.screens.prune_preview import PruneDialog
        from app.engine.prune_words import parse_prune

        wish = parse_prune(args)
        if self._session.loaded is None or self._session.busy:
            self._session.notify("Prune when the model is loaded and the reply is done.")
            return
        self._app.push_screen(PruneDialog(self._session, *wish))

    def do_pin(self, args: str) -> None:
        self._session.notify(self._session.prune.pin(args))

    def do_undo(self, args: str) -> None:
        self._session.undo_cache()

    def do_reprefill(self, args: str) -> None:
        self._session.reprefill()

    def do_measure(self, args: str) -> None:
        if args.lower() == "model" or (not args and not self._session.page.messages):
            self._session.measuring.of_model()
        elif args:
            raise UsageError(f"{args!r} cannot be measured.", "/measure, or /measure model.")
        else:
            self._session.measuring.start()

    def do_panel(self, args: str) -> None:
        self._app.chat.toggle_panel()

    def do_stats(self, args: str) -> None:
        status = self._session.status
        if status is None:
            self._session.notify("There are no figures yet.")
            return
        memory, first = status.memory, status.first_token_s
        threads = f" with {status.n_threads} threads" if status.n_threads > 1 else ""
        if status.n_threads < status.most_threads:
            threads = f" with {status.n_threads} of {status.most_threads} threads (other programs are busy)"
        self._session.notify(
            f"{format.setting(status.type_k, status.type_v, status.tail)}: "
            f"{format.count(status.n_used)} of {format.count(status.n_ctx)} tokens, "
            f"cache {format.size(memory.kv_measured)}, engine {format.size(memory.rss)} "
            f"(predicted {format.size(memory.predicted_total)}), "
            f"{format.size(memory.available)} of {format.size(memory.total)} free; "
            f"prefill {format.rate(status.prefill_tps)} t/s, "
            f"generation {format.rate(status.generate_tps)} t/s{threads}, "
            f"first token {format.duration(first) if first else format.rate(0)}"
        )

    # ---------------------------------------------------------------- conversations

    def do_new(self, args: str) -> None:
        self._session.new_conversation()
        self._app.chat.composer.focus()

    def do_chats(self, args: str) -> None:
        self._app.open_conversations(args)

    def do_park(self, args: str) -> None:
        if not self._session.park_now(args):
            self._session.notify("There is nothing to park yet: say something first.")

    def do_resume(self, args: str) -> None:
        if not self._session.parked.enter():
            self._session.notify("Nothing is parked of this conversation.")

    def do_search(self, args: str) -> None:
        self._app.open_conversations(args)

    def do_rename(self, args: str) -> None:
        if not self._session.page.id:
            self._session.notify("There is nothing to name yet: say something first.")
            return
        self._session.rename(self._session.page.id, one_line(args, 200))
        self._session.notify(f"This conversation is called {one_line(args, 60)} now.")

    def do_delete(self, args: str) -> None:
        title = one_line(self._session.page.title, 60)
        if self._session.delete(self._session.page.id):
            self._session.notify(
                f"The conversation {title} was deleted.", actions=[Action("bring it back", "/restore")]
            )

    def do_restore(self, args: str) -> None:
        self._session.restore_deleted()

    def do_export(self, args: str) -> None:
        from app.store.export import export

        if not self._session.page.id:
            self._session.notify("There is nothing to export yet.")
            return
        kind, _, where = args.partition(" ")
        kind = {"markdown": "md"}.get(kind.lower(), kind.lower())
        if kind not in ("md", "json"):
            raise UsageError(f"{kind!r} is no format of an export.", "Write /export md or /export json.")
        target = Path(where.strip() or ".").expanduser()
        path = export(self._session.store, self._session.page.id, target, kind)
        self._session.notify(f"Written to {one_line(str(path.resolve()))}", "good")

    def do_system(self, args: str) -> None:
        if not args:
            prompt = self._session.settings.system_prompt
            self._session.notify(
                f"The system prompt is: {prompt}" if prompt else "There is no system prompt."
            )
            return
        self._session.set_setting("system_prompt", "" if args.lower() == "none" else args)
        self._session.notify("The model is told so from the next reply on.")

    # ---------------------------------------------------------------- messages

    def do_edit(self, args: str) -> None:
        last = self._session.page.last("user")
        if last is None:
            self._session.notify("You have not said anything yet.")
        elif args:
            self._session.edit(last.id, args)
        else:
            self._app.chat.begin_edit(last.id)

    def do_regenerate(self, args: str) -> None:
        self._session.regenerate()

    def do_continue(self, args: str) -> None:
        self._session.continue_reply()

    def do_branch(self, args: str) -> None:
        page = self._session.page
        message = next((m for m in reversed(page.messages) if m.n_siblings > 1), None)
        if message is None:
            self._session.notify("There is only one version of everything. F5 writes the last reply again.")
            return
        word = args.lower() or "next"
        if word.isdigit():
            step = int(word) - 1 - message.sibling_index
        else:
            step = -1 if word in ("prev", "previous", "back") else 1
            if not args and message.sibling_index + 1 == message.n_siblings:
                step = -message.sibling_index
        self._session.switch_branch(message.id, step)

    def do_copy(self, args: str) -> None:
        self._app.chat.copy_last(code=args.lower() == "code")

    def do_stop(self, args: str) -> None:
        self._session.stop()

    # ---------------------------------------------------------------- the rest

    def do_model(self, args: str) -> None:
        if not args:
            self._app.open_model_picker()
        elif not self._session.resume_download(args):
            self._session.load_model(args)

    def do_restart(self, args: str) -> None:
        self._session.restart_engine()

    def do_set(self, args: str) -> None:
        name, _, value = args.partition(" ")
        if not name:
            self._app.open_settings()
        elif not value.strip():
            from app.store.settings import setting

            known = setting(name)
            self._session.notify(
                f"{known.name} is {getattr(self._session.settings, known.name)!r}. {known.about}"
            )
        else:
            self._app.change_setting(name, value.strip())
            self._session.notify(f"{name} is {getattr(self._session.settings, name)!r} now.")

    def do_theme(self, args: str) -> None:
        if not args:
            self._app.search_themes()
        else:
            self._app.change_setting("theme", args)

    def do_log(self, args: str) -> None:
        from app import paths

        self._session.notify(f"The engine writes into {paths.log_path()}")

    def do_help(self, args: str) -> None:
        self._app.open_help()

    def do_quit(self, args: str) -> None:
        self._session.talk.leave()  # while it can still be said that something could not be saved
        unsaved = self._session.talk.unsaved
        unsaved.save()
        if len(unsaved) and not self._warned:
            self._warned = True
            self._session.notify(
                "The last reply could not be saved yet, and leaving now loses it.",
                "warning",
                [Action("leave all the same", "/quit")],
            )
            return
        self._app.exit()

    # ---------------------------------------------------------------- completion

    def arguments(self, name: str) -> Sequence[Candidate]:
        """What can follow a command."""
        status = self._session.status
        if name == "kv" and status is not None:
            return [
                Candidate(
                    format.setting(row.type_k, row.type_v),
                    format.setting(row.type_k, row.type_v),
                    row.refused or ", ".join(filter(None, (_reach(row), row.loss.words))),
                    runs=True,
                )
                for row in status.rows
            ]
        if name == "ctx":
            return [Candidate(str(n), format.count(n), runs=True) for n in (2048, 4096, 8192, 16384, 32768)]
        if name == "measure":
            return [Candidate("model", "model", "what each setting costs on this model", runs=True)]
        if name == "theme":
            return [Candidate(theme, theme, runs=True) for theme in sorted(self._app.available_themes)]
        if name == "set":
            return [Candidate(f"{s.name} ", s.name, s.about) for s in SETTINGS.values()]
        if name == "tail":
            return [Candidate(word, word, about, runs=True) for word, about in TAILS]
        if name == "prune":
            return [Candidate(f"{share} ", share, runs=True) for share in ("75%", "50%", "25%", "10%")]
        fixed = {"export": ("md", "json"), "copy": ("code",), "branch": ("next", "prev"), "system": ("none",)}
        return [Candidate(word, word, runs=True) for word in fixed.get(name, ())]
