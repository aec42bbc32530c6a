"""The names of the policies, for whoever only needs to read them."""

from __future__ import annotations

POLICIES = (
    "kvzip",
    "snapkv",
    "expected_attention",
    "h2o",
    "tova",
    "lagkv",
    "keydiff",
    "leverage",
    "outlier",
    "knorm",
    "streaming",
)
"""Every policy; the first is the usual one."""
