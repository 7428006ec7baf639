"""Content kinds and metadata plans, found by worker processes without privileges (layer 2).

Libmagic and the locators of ``policyfs.redact`` parse hostile bytes and the daemon is root, so
they never run in the daemon. sniffer.py is the daemon's side and the only door; zygote.py is the
prepared parent that forks the workers (worker.py), sandbox.py what a worker gives up.

What a worker says is checked for shape (protocol.py, plans.py) but cannot be checked for truth: a
worker that was taken over through a parser bug can name a wrong kind or wrong ranges for the
files it is asked about until it is replaced. It can do nothing else: no file, no socket, no
process is within its reach, and a plan can only ever change bytes inside the copy it was made for.
So a worker serves one app (pool.py), and nobody else goes by what it said before a fresh one has found
the same (fs/redacted/second_looks.py).
"""
