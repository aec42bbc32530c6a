"""The laboratory at the terminal: what ``stretch eval`` and ``stretch bench`` ask for, print and write."""
