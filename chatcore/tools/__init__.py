"""Tools that a model may call: Python functions, MCP servers, tools from the configuration."""
