"""The benchmark of parking asks every codec only for settings that it has."""

from __future__ import annotations

import pytest

from benchmarks.park import settings_of
from quantize.park.codec import CODECS, parse


@pytest.mark.parametrize("name", CODECS)
def test_every_setting_is_one_of_the_codec(name: str) -> None:
    settings = settings_of(name)
    assert len({s.label for s in settings}) == len(settings) > 1
    for setting in settings:
        assert CODECS[name].check(setting) == setting
        assert parse(setting.label).codec == name
