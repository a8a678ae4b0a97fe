"""Find a model by name, and what of it fits this machine."""
