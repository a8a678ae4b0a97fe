"""What a server does when it is asked for too much, and when it is used for long."""
