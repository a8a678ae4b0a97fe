"""The tree of messages, and conversations as files."""
