"""The laboratory: what a cache setting costs in quality, and how fast it is.

Everything that is measured is a ``Setting``: cache types with or without a window of exact tokens, or
another way to make a cache smaller, which joins as a class of its own (``setting.py``). One is opened on
a ``Workbench`` (a loaded model) and gives a ``Subject``: a cache that can be read into.

- ``divergence.py``, ``lockstep.py``: how far the answers are from those with an f16 cache
- ``floor.py``: how far rounding noise alone takes them
- ``facts.py``, ``recall.py``: whether facts in a long text are found again
- ``speed.py``, ``switching.py``: tokens per second, and the time of a change of types
- ``worker.py``, ``process.py``: llama.cpp in a child process, so that its death ends one measurement only
- ``evaluate.py``, ``benchmark.py``: the whole, as ``stretch eval`` and ``stretch bench`` run it
- ``notebook.py``: results that outlive an interruption
- ``verdict.py``, ``picture.py``: what the figures say
- ``svg.py``: what this and the other pictures are drawn with

Usage::

    for event in evaluate(opening, plan, candidates, notebook):
        ...
"""
