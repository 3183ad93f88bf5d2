"""The magics, and what they share."""
