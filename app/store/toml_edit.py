"""Change one value of a TOML text and keep everything that a person wrote around it."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.store.layer import line_of
from app.store.settings import SECTIONS, SETTINGS, to_toml
from quantize.errors import StoreError


def edited(text: str, model: str, key: str, value: object, *, flat: bool) -> str:
    """``text`` with one setting changed (None removes it), everything else as it was.

    Args:
        model: name of the model's table, empty for none.
        flat: put a new key directly into the table instead of into the section that it belongs to.
    """
    import tomlkit
    from tomlkit.container import OutOfOrderTableProxy
    from tomlkit.items import Table

    section = SETTINGS[key].section
    path = ("model", model) if model else ()
    if value is not None and not flat:
        text = _uncomment(text, section, key)
    elif value is None and not flat:
        text, done = _comment_out(text, section, key)
        if done:
            return text
    document = tomlkit.parse(text)
    holder: Any = document
    for name in path:
        if name not in holder:
            if value is None:
                return text
            holder[name] = tomlkit.table(is_super_table=name == "model")
        holder = holder[name]
    if key == "keys":
        _match(holder, value)
        return tomlkit.dumps(document)
    in_sections = (holder[s] for s in SECTIONS if isinstance(holder.get(s), Table | OutOfOrderTableProxy))
    places = [holder, *in_sections]
    place = next((p for p in places if key in p), None)
    if value is None:
        if place is not None:
            del place[key]
        return tomlkit.dumps(document)
    if place is None:
        if not flat and section not in holder:
            holder[section] = tomlkit.table()
        place = holder if flat else holder[section]
    place[key] = list(value) if isinstance(value, tuple) else value
    return tomlkit.dumps(document)


def _match(holder: Any, keys: object) -> None:
    """Make the table of keys equal to ``keys``."""
    import tomlkit

    wanted: Mapping[str, str] = keys if isinstance(keys, Mapping) else {}
    if "keys" not in holder:
        holder["keys"] = tomlkit.table()
    table = holder["keys"]
    for action in [a for a in table if a not in wanted]:
        del table[action]
    for action, key in wanted.items():
        table[action] = key


def _commented(section: str, key: str) -> re.Pattern[str]:
    """The line of the template that shows the default of ``key``."""
    return re.compile(rf"(^\[{section}\]\n(?:(?!\[).*\n)*?)# {key} = .*$", re.MULTILINE)


def _uncomment(text: str, section: str, key: str) -> str:
    """Put a new value where the template has its comment."""
    if line_of(text, (section, key)):
        return text
    default = f"{key} = {to_toml(SETTINGS[key].default)}"
    return _commented(section, key).sub(lambda m: m[1] + default, text, count=1)


def _comment_out(text: str, section: str, key: str) -> tuple[str, bool]:
    """Turn a value on one line back into the comment of the template."""
    number = line_of(text, (section, key))
    lines = text.split("\n")
    if not number:
        return text, False
    default = to_toml(SETTINGS[key].default)
    lines[number - 1] = f"# {key} = {default}"
    changed = "\n".join(lines)
    try:
        tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        return text, False  # the value went over several lines
    return changed, True


def replace_file(path: Path, text: str) -> None:
    """Replace a file in one step, so that a reader sees the old one or the new one. Links stay links.

    Raises:
        StoreError: if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            Path(temporary).chmod(target.stat().st_mode & 0o777)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.", "Check the disk and the permissions."
        ) from error
