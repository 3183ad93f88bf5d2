"""The rules of a conversation: no IPython, no widgets, no SDK."""
