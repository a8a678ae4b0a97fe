"""HTTP client settings, API keys and ports."""
