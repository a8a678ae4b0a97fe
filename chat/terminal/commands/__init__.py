"""The slash commands of the terminal."""
