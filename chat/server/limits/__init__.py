"""Request slots, refusals and metrics: shared by the guard and the routes."""
