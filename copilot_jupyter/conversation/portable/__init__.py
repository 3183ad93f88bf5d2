"""Turns that travel: in a notebook's outputs, in a bundle, to another machine and back."""
