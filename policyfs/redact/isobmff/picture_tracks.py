"""Tracks beside still pictures: claims on their samples, in files that hold more than a movie."""

from __future__ import annotations

from collections.abc import Callable

from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.patches import ByteSource
from policyfs.redact.isobmff.item_data import Gathered, Ground, Span
from policyfs.redact.isobmff.moov import Movie, Track
from policyfs.redact.isobmff.samples import sample_tells


def claim_tracks(
    source: ByteSource,
    inner: Inner,
    movie: Movie,
    ground: Ground,
    container: str,
    pictures: Callable[[Track], Found],
    emptied: Callable[[Track], Found | None] = lambda _: None,
) -> None:
    """Claim the samples of all tracks, as data to be removed or as media with changes within.

    Samples that tell are removed. Changes within media are those of pictures, in offsets of the file.
    emptied: returns changes that make the samples of a removed track say nothing; None: zeros.

    Raises NotThisKindError if the tables of a track that stays contradict each other, TooMuchError.
    """
    for track in movie.tracks:
        tells = sample_tells(track, source)
        goes = bool(tells & inner.hide)
        try:
            extents = track.samples().extents(source.size, track.entries.sounds)
        except NotThisKindError:
            if goes:
                continue  # unclaimed data is removed anyway
            raise
        inner.budget.part(len(extents.starts))
        samples = Gathered(source, map(Span, extents.starts, extents.ends))
        empty = emptied(track) if goes else None
        if empty is not None:
            ground.metadata(samples, empty)
        elif goes:
            ground.blank(samples, Note(0, 0, container, f"track {track.number}", tells))
        else:
            ground.media(samples, pictures(track))
