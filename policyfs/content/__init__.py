"""Content kinds and redaction plans, found by worker processes without privileges (layer 2).

Libmagic and the locators (the functions of ``policyfs.redact`` that find the parts of a file to hide) parse
hostile bytes. The daemon is root, so they never run in the daemon. sniffer.py is the daemon's side and the
only entry point. zygote.py is the parent of the workers (worker.py): it has imported all that they need, and
forks them. sandbox.py takes a worker's rights away.

The daemon checks the form of a worker's answer (protocol.py, plans.py), but cannot check if the answer is
true. A worker that was taken over through a parser bug can report a wrong kind or wrong ranges for the files
of its requests until the worker is replaced. It can do nothing else: it reaches no file, no socket and no
process, and a plan can only change bytes inside the copy for which it was made. So a worker serves only one
app (pool.py). Its answers count for other apps only after a fresh worker has found the same
(fs/redacted/second_looks.py).
"""
