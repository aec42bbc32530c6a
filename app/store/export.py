"""Conversations as files: Markdown to read, JSON to keep and to read back."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

from app.plain_text import one_line
from app.store.records import Attachment, Conversation, Figures, Message, Role, State
from app.store.store import Store
from quantize.errors import StoreError

FORMAT, VERSION = "stretch-conversation", 1
_LARGEST = 512 << 20
_LATEST = 1e11  # seconds: the year 5138
_NAME_BYTES = 80
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10))}


# --------------------------------------------------------------------------- writing


def to_markdown(conversation: Conversation, branch: list[Message]) -> str:
    """The branch that is shown, as Markdown. A reply that was stopped says so."""
    model = one_line(conversation.model) or "Assistant"
    parts = [
        f"# {one_line(conversation.title) or 'Conversation'}",
        f"*{_day(conversation.created)}, {model}*",
    ]
    names = {"user": "You", "assistant": model, "system": "System"}
    for message in branch:
        parts.append(f"## {names[message.role]}")
        for attachment in message.attachments:
            parts.append(f"Attached: `{one_line(attachment.name)}`\n\n{_fenced(attachment.text)}")
        parts.append(message.content.strip("\n"))
        if message.state != "complete":
            parts.append("*(stopped here)*")
    return "\n\n".join(parts) + "\n"


def to_json(conversation: Conversation, tree: list[Message]) -> str:
    """All branches, as JSON that ``read_json`` reads back."""
    messages = [
        {
            "id": m.id,
            "parent": m.parent,
            "role": m.role,
            "content": m.content,
            "state": m.state,
            "created": m.created,
            "figures": m.figures.to_dict(),
            "attachments": [asdict(a) for a in m.attachments],
        }
        for m in tree
    ]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "title": conversation.title,
        "created": conversation.created,
        "model": conversation.model,
        "settings": conversation.settings,
        "leaf": conversation.leaf,
        "messages": messages,
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def export(store: Store, id: int, target: Path, kind: str) -> Path:
    """Write conversation ``id`` to a file; never over another one.

    Args:
        target: a directory, in which the file gets a name of its own, or the file.
        kind: ``md`` or ``json``.

    Raises:
        StoreError: if it cannot be written.
    """
    conversation = store.conversation(id)
    text = (
        to_json(conversation, store.tree(id))
        if kind == "json"
        else to_markdown(conversation, store.branch(id))
    )
    directory, stem, ending = target, safe_name(conversation.title), f".{kind}"
    if not target.is_dir():
        directory, stem, ending = target.parent, target.stem, target.suffix or ending
    n = 1
    while True:
        path = directory / (f"{stem}{ending}" if n == 1 else f"{stem} ({n}){ending}")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            n += 1
        except OSError as error:
            raise StoreError(
                f"{path} cannot be written: {error.strerror or error}.", "Choose another directory."
            ) from error


def safe_name(title: str) -> str:
    """A file name, without extension, that every file system takes."""
    name = unicodedata.normalize("NFC", one_line(title).replace("�", ""))
    name = re.sub(r'[<>:"/\\|?*]+', "-", name).strip(" .-")
    while len(name.encode()) > _NAME_BYTES:
        name = name[:-1].rstrip(" .-")
    if name.split(".")[0].lower() in _RESERVED:
        name = f"_{name}"
    return name or "conversation"


def _day(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "unknown date"


def _fenced(text: str) -> str:
    """``text`` in a fence that is longer than any within it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip(chr(10))}\n{fence}"


# --------------------------------------------------------------------------- reading


def import_file(store: Store, path: Path) -> Conversation:
    """Add the conversation of a JSON export, with all its branches.

    Raises:
        StoreError: if the file cannot be read or is not such an export; nothing was added.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise _unusable(path, "it is too large")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise _unusable(path, "it is not UTF-8") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unusable(path, "it is not JSON") from error
    try:
        return _import(store, data)
    except _WrongError as error:
        raise _unusable(path, str(error)) from error


class _WrongError(Exception):
    """What is wrong with an export, in words."""


def _unusable(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is not a conversation that Stretch exported: {why}.")


def _import(store: Store, data: Any) -> Conversation:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise _WrongError(f'it does not say "format": "{FORMAT}"')
    if _get(data, "version", int) > VERSION:
        raise _WrongError("it comes from a newer version")
    messages = _in_order([_message(m) for m in _get(data, "messages", list)])
    leaf = data.get("leaf")
    if leaf is not None and not any(m.id == leaf for m in messages):
        raise _WrongError("its leaf is not among the messages")
    return store.add_tree(
        messages,
        title=_get(data, "title", str),
        created=_time(data),
        model=_get(data, "model", str),
        settings=_get(data, "settings", str),
        leaf=leaf,
    )


def _get(data: dict[str, Any], key: str, kind: type) -> Any:
    value = data.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _WrongError(f"{key!r} is missing or no {kind.__name__}")
    return value


def _time(data: dict[str, Any]) -> float:
    value = data.get("created")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise _WrongError("'created' is not a time")
    return float(value)


def _message(data: Any) -> Message:
    if not isinstance(data, dict):
        raise _WrongError("a message is not an object")
    role, state, parent = _get(data, "role", str), _get(data, "state", str), data.get("parent")
    if role not in get_args(Role) or state not in get_args(State):
        raise _WrongError(f"there is no role {role!r} with the state {state!r}")
    if parent is not None:
        _get(data, "parent", int)
    attachments = _get(data, "attachments", list)
    if not all(isinstance(a, dict) for a in attachments):
        raise _WrongError("an attachment is not an object")
    return Message(
        id=_get(data, "id", int),
        conversation=0,
        parent=parent,
        role=cast(Role, role),
        content=_get(data, "content", str),
        state="stopped" if state == "partial" else cast(State, state),
        created=_time(data),
        figures=Figures.from_dict(_get(data, "figures", dict)),
        attachments=tuple(Attachment(_get(a, "name", str), _get(a, "text", str)) for a in attachments),
    )


def _in_order(messages: list[Message]) -> list[Message]:
    """Parents before children, siblings as they stand.

    Raises:
        _WrongError: if an id occurs twice, or a message does not lead back to a first one.
    """
    if len({m.id for m in messages}) != len(messages):
        raise _WrongError("two messages have the same id")
    children: dict[int | None, list[Message]] = {}
    for m in messages:
        children.setdefault(m.parent, []).append(m)
    ordered, waiting = [], list(reversed(children.get(None, [])))
    while waiting:
        m = waiting.pop()
        ordered.append(m)
        waiting += reversed(children.get(m.id, []))
    if len(ordered) != len(messages):
        raise _WrongError("a message follows one that does not exist")
    return ordered
