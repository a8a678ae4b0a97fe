"""Routes for conversations that are kept on the server."""
