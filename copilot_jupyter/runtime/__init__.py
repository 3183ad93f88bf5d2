"""The Copilot runtime: the only room that knows the SDK and the state it keeps on disk."""
