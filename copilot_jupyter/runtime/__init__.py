"""The Copilot runtime: the only room that knows the SDK."""
