"""The page: turns, quiet lines between them, and a window that keeps a long conversation light."""
