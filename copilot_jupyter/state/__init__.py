"""Copilot's sessions as they lie on disk: read and kept without a runtime, without the SDK."""
