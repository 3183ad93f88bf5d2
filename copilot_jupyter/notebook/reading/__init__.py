"""A conversation to read: a page in a cell, the reader, files."""
