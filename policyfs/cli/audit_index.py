"""`policyfs audit index`: make indexes of closed trail files before a query needs them, or check indexes."""

from __future__ import annotations

import argparse
import contextlib
from concurrent.futures import ProcessPoolExecutor

from policyfs.cli.audit_query import Progress, chains_of
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.journal.directories import cache_directory
from policyfs.journal.index_cache import IndexCache, build, index_name
from policyfs.journal.reader import Chain
from policyfs.journal.segment_file import SegmentFile
from policyfs.trail.table import shown

_PROCESSES = 2


def add_parsers(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the action `index` to `policyfs audit`. common: a parser with the options of all actions."""
    index = actions.add_parser(
        "index", parents=[common], help="make the indexes of closed segments, so that queries are quick"
    )
    index.add_argument(
        "--check",
        action="store_true",
        help="make each index again, and compare the new index with the kept index",
    )


def index_segments(args: argparse.Namespace) -> int:
    """Make or check the indexes of the trail's files. Return 1 if a kept index did not match its file."""
    cache = IndexCache(cache_directory())
    if cache.problem:
        raise PolicyfsError(f"no index can be kept: {cache.problem}")
    with contextlib.closing(cache):
        cache.forget_old()
        work = [(chain, name) for chain in chains_of(args) for name in chain.segments()[:-1]]
        progress, made, wrong = Progress(), 0, []
        with ProcessPoolExecutor(min(_PROCESSES, len(work) or 1)) as pool:
            jobs = [pool.submit(_work, chain, name, check=args.check) for chain, name in work]
            for done, ((chain, name), job) in enumerate(zip(work, jobs, strict=True), start=1):
                found = job.result()
                made += found == "made"
                if found == "wrong":
                    wrong.append(f"{shown(chain.mount_id)}/{shown(name)}")
                progress("indexing segments", done, len(work))
    for name in wrong:
        print(f"{name}: the kept index did not match its segment; policyfs made the index again")
    print(f"found {len(work)} closed segments, and made {made} indexes")
    return EXIT_REFUSED if wrong else EXIT_OK


def _work(chain: Chain, name: str, *, check: bool) -> str:
    """Make or check the index of one segment (a file of the trail).

    Return ``made``, ``kept``, ``wrong`` or ``gone``. ``wrong``: the kept index did not match the segment, and
    was made again. ``gone``: the segment was removed meanwhile. name: the segment's file name.
    """
    cache = IndexCache(cache_directory())
    try:
        with contextlib.closing(cache), contextlib.closing(SegmentFile(chain, name)) as file:
            digest = file.digest(0, file.size)
            usable = cache.load(digest, file.size) is not None
            if usable and not check:
                return "kept"
            kept, data = cache.contents(index_name(digest)), build(file, 0, file.size, digest)
            if usable and kept == data:
                return "kept"
            cache.save_index(digest, data)
            return "made" if kept is None else "wrong"
    except FileNotFoundError:
        return "gone"
