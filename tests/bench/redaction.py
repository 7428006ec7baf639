"""What redaction costs: first and later opens, reading, long films, and a library after a restart."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Final

from tests.bench import measures
from tests.bench.report import RATIO
from tests.bench.session import Session
from tests.bench.targets import GALLERY, UID, Bench, Target
from tests.support.machine.processes import tool_as
from tests.support.samples import jpegs, media

BUFFER: Final = str(1 << 20)
FIRSTS: Final = 20
PHOTOS: Final = 10_000
FILM_FRAMES: Final = 380
"""Of 1280 x 720 raw pixels: some 525 MB."""
LONG_FILM_S: Final = 300
LONG_FILMS: Final = 8
HOLE_BYTES: Final = 2 << 30


def redaction(session: Session, where: str, bench: Bench) -> None:
    """All figures of one store."""
    photos = bench.store / "photos"
    photos.mkdir(mode=0o755)
    if where == "tmpfs":  # films of 2.5 GB do not fit, and nothing of theirs is another way there
        _photos(session, where, bench, photos)
        return
    _photos(session, where, bench, photos)
    _films(session, where, bench, photos)
    _library(session, where, bench, photos)


def _placed(path: Path, width: int, height: int) -> Path:
    media.picture(path, width=width, height=height, noise=True)
    media.write_tags(path, media.place_tags(media.HOME))
    path.chmod(0o644)
    return path


def _photos(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """A photo that was seen before, and photos that were not."""
    eight = _placed(photos / "eight.jpg", 3800, 2850)
    with bench.policyfs("gallery") as app:

        def cost_us(target: Target) -> float:
            path = str(target.path / "photos" / eight.name)
            return 1e6 / measures.rate(session.client, GALLERY, "again", path, BUFFER)

        assert app.mount is not None
        before = app.mount.fuse("READ")
        values = measures.medians([bench.native(), app], cost_us)
        speed = {name: cost if name == RATIO else 1e6 / cost for name, cost in values.items()}
        speed[RATIO] = 1 / values[RATIO]
        session.add("reads of an open redacted 8 MB photo", where, "1/s", speed, ">= 0.9")
        print(f"    requests for bytes meanwhile: {app.mount.fuse('READ') - before}")
    opens = _opens(session, bench, eight)
    session.add("second open + close: redacted, beside unredacted", where, "µs", opens, "<= 1.2")
    _firsts(session, where, bench, photos)


def _opens(session: Session, bench: Bench, file: Path) -> dict[str, float]:
    """Microseconds of an open and close of a file that was seen before, in turns: "native" is an app that
    gets it raw, "policyfs" one that gets it redacted, each in a mount of its own."""
    with bench.policyfs("bench") as raw, bench.policyfs("gallery") as redacted:
        uids = {"native": UID, "policyfs": GALLERY}

        def cost_us(target: Target) -> float:
            path = str(target.path / "photos" / file.name)
            return 1e6 / measures.rate(session.client, uids[target.name], "open", path)

        return measures.medians([Target("native", raw.path), Target("policyfs", redacted.path)], cost_us)


def _firsts(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """What the first open of a photo of 4 MB adds: one that no daemon has seen, each time."""
    directory = photos / "firsts"
    directory.mkdir(mode=0o755)
    one = _placed(directory / "0.jpg", 2600, 1950)
    for number in range(1, FIRSTS):
        shutil.copyfile(one, directory / f"{number}.jpg")
        (directory / f"{number}.jpg").chmod(0o644)
    added = []
    for _ in range(measures.REPEATS):
        for path in directory.iterdir():
            os.utime(path)  # another version: what was found before counts no more
        costs = []
        for app, uid in (("bench", UID), ("gallery", GALLERY)):
            with bench.policyfs(app) as target:
                _, took = measures.client(session.client, uid, "first", str(target.path / "photos/firsts"))
                costs.append(took / FIRSTS / 1e6)
        added.append(costs[1] - costs[0])
    values = {"policyfs": statistics.median(added)}
    session.add(f"first open of a {one.stat().st_size / 1e6:.0f} MB photo adds", where, "ms", values, "<= 4")
    shutil.rmtree(directory)


def _films(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """A film of 500 MB read from end to end, and the first open of one of 2 GB."""
    film = photos / "film.mp4"
    media.run(
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=1280x720:rate=25"),
        *("-frames:v", str(FILM_FRAMES), "-pix_fmt", "yuv420p", "-c:v", "rawvideo"),
        *("-metadata", "location=+47.8045+013.0422/", "-f", "mov", str(film)),
    )
    film.chmod(0o644)
    ratios, speeds = [], []
    with bench.policyfs("gallery") as app:
        for _ in range(measures.REPEATS):
            costs = []
            for target in (bench.native(), app):
                os.utime(film)  # seen by nobody
                _forget(film)
                path = str(target.path / "photos" / film.name)
                count, took = measures.client(session.client, GALLERY, "once", path, BUFFER)
                costs.append(count / took * 1e9 / (1 << 20))
            ratios.append(costs[1] / costs[0])
            speeds.append(costs)
    native, ours = (statistics.median(column) for column in zip(*speeds, strict=True))
    values = {"native": native, "policyfs": ours, RATIO: statistics.median(ratios)}
    goal = ">= 0.9" if where == "xfs" else ">= 0.5"
    what = f"first read of a redacted {film.stat().st_size / 1e6:.0f} MB film"
    session.add(what, where, "MiB/s", values, goal)
    film.unlink()
    _long_film(session, where, bench, photos)
    for form in ("mp4", "mkv", "avi"):
        _first_byte(session, where, bench, photos, form)


def _first_byte(session: Session, where: str, bench: Bench, photos: Path, form: str) -> None:
    """The first byte of a film of a gigabyte at 40 Mbit/s, from the page cache."""
    part, film = photos / f"part.{form}", photos / "first" / f"film.{form}"
    film.parent.mkdir(mode=0o755)
    pictures = "nullsrc=size=640x480:rate=25,geq=random(1)*255:128:128"
    media.run(
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", "sine", "-t", "4"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "40M", "-minrate", "40M", "-bufsize", "40M"),
        *("-pix_fmt", "yuv420p", "-c:a", "libmp3lame", str(part)),
    )
    media.run("ffmpeg", "-v", "error", "-stream_loop", "50", "-i", str(part), "-c", "copy", str(film))
    film.chmod(0o644)
    costs = []
    with bench.policyfs("gallery") as app:
        for _ in range(measures.REPEATS):
            os.utime(film)  # seen by nobody
            place = str(app.path / "photos/first")
            costs.append(measures.client(session.client, GALLERY, "first", place)[1] / 1e6)
    what = f"first byte of a {form} film of {film.stat().st_size / 1e9:.1f} GB"
    session.add(what, where, "ms", {"policyfs": statistics.median(costs)}, "<= 300")
    part.unlink()
    shutil.rmtree(film.parent)


def _forget(path: Path) -> None:
    """The kernel keeps none of the file's pages."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def _long_film(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """The first open of a film of 2 GB whose tables are at its end; the mean of some, as of photos."""
    small, directory = photos / "small.mov", photos / "long"
    directory.mkdir(mode=0o755)
    media.run(
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=30"),
        *("-f", "lavfi", "-i", "sine", "-t", str(LONG_FILM_S), "-c:v", "libx264", "-preset", "ultrafast"),
        *("-c:a", "aac", "-metadata", "location=+47.8045+013.0422/", str(small)),
    )
    data = small.read_bytes()
    small.unlink()
    at = data.rindex(b"moov") - 4
    for number in range(LONG_FILMS):
        with (directory / f"{number}.mov").open("wb") as out:
            out.write(data[:at])
            out.write(b"\0\0\0\1free" + HOLE_BYTES.to_bytes(8))
            out.seek(at + HOLE_BYTES)
            out.write(data[at:])
        (directory / f"{number}.mov").chmod(0o644)
    added = []
    for _ in range(measures.REPEATS):
        for path in directory.iterdir():
            os.utime(path)
        costs = []
        for app, uid in (("bench", UID), ("gallery", GALLERY)):
            with bench.policyfs(app) as target:
                _, took = measures.client(session.client, uid, "first", str(target.path / "photos/long"))
                costs.append(took / LONG_FILMS / 1e6)
        added.append(costs[1] - costs[0])
    values = {"policyfs": statistics.median(added)}
    session.add("first open of a 2 GB film, tables at its end, adds", where, "ms", values, "<= 6")
    shutil.rmtree(directory)


def _library(session: Session, where: str, bench: Bench, photos: Path) -> None:
    """Every photo of a library opened once, then again by a daemon that has just started."""
    directory = photos / "library"
    directory.mkdir(mode=0o755)
    data = jpegs.photo_with(jpegs.exif())
    for number in range(PHOTOS):
        (directory / f"{number}.jpg").write_bytes(data)
    tool_as(0, "chmod", "-R", "a+rX", directory, check=True)
    time.sleep(1)  # older than what may change once more within one tick
    for when in ("first", "after a restart"):
        with bench.policyfs("gallery") as app:
            count, took = measures.client(session.client, GALLERY, "first", str(app.path / "photos/library"))
            assert app.mount is not None
            asked = app.mount.status()["sniffer"]["requests"]
        values = {"policyfs": count * 1e9 / took}
        session.add(f"{count:,} photos opened in a row, {when}", where, "1/s", values)
        goal = "0" if when != "first" else ""
        session.add(f"of which were parsed, {when}", where, "photos", {"policyfs": float(asked)}, goal)
