"""The secret shield: what never leaves this machine."""
