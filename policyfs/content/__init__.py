"""Content kinds and redaction plans, found by worker processes without privileges (layer 2).

Libmagic and the locators (the functions of ``policyfs.redact`` that find the parts of a file to hide) parse
hostile bytes. The daemon is root, so libmagic and the locators never run in the daemon. sniffer.py is the
daemon's side and the only entry point. The zygote (zygote.py) is the parent of the workers (worker.py): it
imports all modules that a worker needs, and forks the workers. sandbox.py takes a worker's rights away.

The daemon checks the form of a worker's answer (protocol.py, plans.py), but cannot check if the answer is
true. An attacker may take over a worker through a parser bug. Until the worker is replaced, it can report a
wrong kind or wrong ranges for the files of its requests. The worker can do nothing else: it reaches no file,
no socket and no process, and a plan can only change bytes inside the copy for which the plan was made. So a
worker, and all that it answered, serves one lane only: an app, or one uid (pool.py, cache.py, disk_cache.py).
"""
