"""The control socket: its protocol, its server, and the commands that it answers."""
