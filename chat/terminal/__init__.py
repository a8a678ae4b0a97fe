"""The terminal program: a line to type in, answers as they come, and commands."""
