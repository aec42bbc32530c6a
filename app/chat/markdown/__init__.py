"""Markdown on the page: parsed into blocks, laid out into rows, shown by one widget per passage.

Textual's own widget makes a widget of every block and every list item. A conversation has
thousands of them, so here a whole passage of text is a single widget and only what changes
is parsed and laid out again. Nothing in the text is ever interpreted beyond Markdown.
"""
