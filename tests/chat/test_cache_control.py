"""Wishes about the cache: one change at a time, the last wish wins, presets go round."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.cache_control import CacheControl, CacheState, bits, next_preset, presets
from app.engine.protocol import KEEP_TAIL, CacheChanged, SetCache
from quantize.cache_types import AUTO_TAIL, CACHE_TYPES, PRESETS, parse_pair
from quantize.errors import CacheTypeError
from tests.panel.figures import ROWS, row

names = st.sampled_from(sorted(CACHE_TYPES))
wishes = st.tuples(
    st.one_of(st.just(""), names),
    st.one_of(st.just(""), names),
    st.sampled_from([-1, 2048, 8192]),
    st.sampled_from([KEEP_TAIL, AUTO_TAIL, 0, 64]),
)


def changed(command: SetCache, now: CacheState) -> CacheChanged:
    """What an engine that does as it is told answers."""
    state = now.changed(command.type_k, command.type_v, command.n_ctx, command.tail)
    pair = parse_pair(f"{state.type_k}/{state.type_v}")
    tail = pair.tail(state.tail, state.n_ctx)
    types = (state.type_k, state.type_v)
    return CacheChanged(command.id, *types, tail, state.n_ctx, 0, 0, 0, 0, 0.1, False, True, "", state.tail)


def test_a_change_is_sent_once() -> None:
    control = CacheControl()
    control.settled(CacheState("f16", "f16", 4096))
    assert control.next_command(1) is None
    control.want("q8_0", "q4_0")
    command = control.next_command(2)
    assert command == SetCache(2, "q8_0", "q4_0")
    assert control.next_command(3) is None


@given(st.lists(wishes, min_size=1, max_size=12), st.data())
def test_whatever_is_pressed_the_last_wish_is_reached(
    pressed: list[tuple[str, str, int, int]], data: st.DataObject
) -> None:
    control = CacheControl()
    control.settled(CacheState("f16", "f16", 4096))
    wanted = control.now
    ids = iter(range(1, 100))
    sent: list[SetCache] = []

    def send() -> None:
        command = control.next_command(next(ids))
        if command is not None:
            sent.append(command)

    for wish in pressed:
        control.want(*wish)
        wanted = wanted.changed(*wish)
        send()
        if sent and data.draw(st.booleans()):
            control.done(changed(sent.pop(), control.now))
            send()
        assert len(sent) <= 1
    while sent:
        control.done(changed(sent.pop(), control.now))
        send()
    assert control.now == control.wanted == wanted


def test_a_change_that_fails_leaves_everything_as_it_was() -> None:
    control = CacheControl()
    control.settled(CacheState("q8_0", "q8_0", 4096))
    control.want("f16", "f16")
    assert control.next_command(1) is not None
    control.failed()
    assert control.now == control.wanted == CacheState("q8_0", "q8_0", 4096)
    assert control.next_command(2) is None


def test_going_up_is_noticed() -> None:
    control = CacheControl()
    control.settled(CacheState("q4_0", "q4_0", 4096))
    control.want("q8_0")
    command = control.next_command(1)
    assert command is not None
    assert control.done(changed(command, control.now))
    control.want("q4_0")
    command = control.next_command(2)
    assert command is not None
    assert not control.done(changed(command, control.now))


def test_unknown_types_are_refused() -> None:
    control = CacheControl()
    with pytest.raises(CacheTypeError):
        control.want("q9_9")
    assert control.wanted == control.now
    assert bits("q9_9", "f16") == 0
    assert bits("f16", "f16") == 32


@given(st.integers(0, 4), st.integers(1, 12))
def test_presets_go_round(start: int, steps: int) -> None:
    choices = presets(ROWS)
    now = choices[start]
    for _ in range(steps):
        now = next_preset(now, choices, 1)
    assert now == choices[(start + steps) % len(choices)]
    assert next_preset(next_preset(now, choices, 1), choices, -1) == now


def test_presets_leave_out_what_the_model_refuses() -> None:
    rows = (row("f16"), row("q4_0", refused="the heads have 40 values"), row("q8_0"))
    assert presets(rows) == [("f16", "f16"), ("q8_0", "q8_0")]
    assert presets(()) == [(pair.k.name, pair.v.name) for pair in PRESETS]
    assert next_preset(("f32", "f32"), presets(rows), 1) == ("f16", "f16")
