"""Chat session logic shared by the terminal and the web page."""
