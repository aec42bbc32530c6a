"""A wish that cannot be fulfilled is a sentence on the page, never the end of the program."""

from __future__ import annotations

from abc import abstractmethod

from textual.message import Message
from textual.message_pump import MessagePump
from textual.widget import MountError

from quantize.errors import StretchError


class Guarded(MessagePump):
    """Shows what a handler raises for the person to read (a full disk, a locked database).

    Textual ends the application with a traceback for whatever a handler lets out; mistakes of the
    program itself still do. News of the engine that come while the program ends are too late to be shown:
    Textual mounts nothing then.
    """

    @abstractmethod
    def complain(self, error: StretchError) -> None:
        """Say what went wrong and what to do next."""

    async def _dispatch_message(self, message: Message) -> None:
        try:
            await super()._dispatch_message(message)
        except StretchError as error:
            self.complain(error)
        except MountError:
            if self.app.return_code is None:
                raise
