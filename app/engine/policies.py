"""What an unattended run does when the context is full."""

from __future__ import annotations

POLICIES = ("stop", "longer", "smaller", "prune", "drop")
"""Give up, lengthen the context, take a smaller cache type, prune the cache, or drop the oldest turns. A
policy that finds no way out gives up."""
