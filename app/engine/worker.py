"""The engine's process: its pipes, its log, its signals.

Started by ``EngineClient``. Ends when it is told to, and when its standard input closes, which
the system does for it however the parent ends. (Linux's death signal would not do: it follows
the thread that started the process, not its parent process.)
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def main(log_path: str) -> None:
    """Run the engine until it is told to end."""
    from app.engine.log import EngineLog, take_over_descriptors

    sys.setswitchinterval(0.001)  # the thread that decodes waits at most so long for the figures' thread
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(ignored, signal.SIG_IGN)  # the terminal's; the interface decides
    commands, events = take_over_descriptors(Path(log_path))
    log = EngineLog(Path(log_path))

    from app.engine.inbox import Inbox
    from app.engine.outbox import Outbox
    from app.engine.protocol import Failed, Hello

    outbox = Outbox(events)
    inbox = Inbox(lambda error: outbox.send(Failed(0, type(error).__name__, error.message, error.hint)))
    inbox.listen(commands)

    from app.engine import native
    from app.engine.engine import Engine
    from app.engine.version import engine_version
    from quantize.llama import send_log_to

    send_log_to(log.receive)
    in_use = native.prepare(log)
    outbox.send(Hello(os.getpid(), engine_version()))
    Engine(inbox, outbox, log, in_use).run()
    os._exit(0)  # everything is freed; the interpreter has nothing to add
