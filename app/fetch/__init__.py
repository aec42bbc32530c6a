"""The model hub on a plain terminal: what was meant, would it run, and the progress of a download."""
