"""The embedded demo model: its weights, its card, and the programs that made it."""
