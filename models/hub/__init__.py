"""The model hub: names, search, judging a file before it is downloaded, and downloads that survive.

``huggingface_hub`` is asked who a repository is, what it holds and which token belongs to it; the
bytes are fetched here, because the library does not resume across runs.
"""
