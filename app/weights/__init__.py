"""Making files of weights: what ``stretch quantize`` and ``stretch convert`` do and say."""
