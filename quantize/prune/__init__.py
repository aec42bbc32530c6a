"""Fewer tokens in the cache: which ones to keep, and a saved state with only those.

- ``policy.py``: what a policy is; one file per policy beside it, ``policies.py`` lists them
- ``layer.py``: K and V of one layer as a policy sees them
- ``observe.py``: attention seen by reading a part of the text, or all of it, once more
- ``selection.py``: from scores to cells, with what is protected
- ``prune.py``: the whole: score, select, write the smaller state

A cell of llama.cpp's cache is one row of K and V in every layer. K is stored with its position in it, and
the position of a cell matters for the causal mask only, so a cell of a rewritten state may hold another
token for every layer and KV head (KVCompose, arXiv 2509.05165). Afterwards positions cannot be shifted, and
the conversation cannot go back to a place before the newest tokens, which are kept whole.
"""
