#!/usr/bin/env python3
"""Puts the free-licensed photographs of a list into one folder.

    scripts/photos/fetch.py scripts/photos/pretrain.tsv photos/
    scripts/photos/fetch.py scripts/photos/sweep.tsv photos/

Needs no root and installs nothing: packages of Debian are downloaded with `apt-get download` and unpacked with
`dpkg-deb` into a cache, files of GitHub repositories come from the address of their commit. Each is checked against
its SHA-256. Run again, it downloads only what is missing. The folder gets SOURCES.tsv: for each file its SHA-256,
source, path, licence and author.
"""

import argparse
import csv
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

COLUMNS = ("sha256", "source", "path", "licence", "author")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("list", type=Path, help="the allow-list, as those beside this script")
    parser.add_argument("folder", type=Path, help="where the photographs go")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="packages (default: %(default)s)")
    parser.add_argument(
        "--github",
        default="https://raw.githubusercontent.com",
        metavar="URL",
        help="where OWNER/NAME/COMMIT/PATH are (default: %(default)s)",
    )
    parser.add_argument("--missing-ok", action="store_true", help="go on without files that are not to be had")
    options = parser.parse_args()

    rows = read_list(options.list)
    options.folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for row in rows:
        target = options.folder / name(row)
        if is_whole(target, row["sha256"]):
            continue
        fetch = from_github if "@" in row["source"] else from_debian
        partial = target.with_name(f".{target.name}.tmp")
        fault = fetch(row, partial, options)
        if fault is None and not is_whole(partial, row["sha256"]):
            fault = "differs from the list's SHA-256"
        if fault is None:
            partial.replace(target)
        else:
            partial.unlink(missing_ok=True)
            missing.append(f"{row['source']}: {row['path']}: {fault}")
    write_sources(options.folder, [row for row in rows if (options.folder / name(row)).exists()])
    print(f"{len(rows) - len(missing)} of {len(rows)} photographs in {options.folder}", file=sys.stderr)
    if missing:
        print("\n".join(missing), file=sys.stderr)
        if not options.missing_ok:
            sys.exit("go online, use Debian 12's packages, or pass --missing-ok; any photographs of your own do as well")


def default_cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dp2o" / "debian"


def read_list(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def name(row):
    """`SOURCE--FILE`; wallpapers named after their size get the name of their folder."""
    path = Path(row["path"])
    if path.stem[0].isdigit():
        path = path.parents[2].with_suffix(path.suffix)
    source = row["source"].partition("@")[0].rpartition("/")[2]
    return f"{source}--{path.name}"


def is_whole(path, sha256):
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def from_github(row, target, options):
    repository, _, commit = row["source"].partition("@")
    url = f"{options.github.rstrip('/')}/{repository}/{commit}/{urllib.parse.quote(row['path'])}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, urllib.error.URLError) as fault:
        return f"{url}: {fault}"


def from_debian(row, target, options):
    tree, fault = unpack(row["source"], options.cache)
    if fault is None and not (tree / row["path"]).is_file():
        fault = "is not in this release's package"
    if fault is None:
        shutil.copyfile(tree / row["path"], target)
    return fault


def unpack(package, cache):
    """The files of a package as a folder of the cache, or why there is none."""
    tree = cache / package
    if tree.is_dir():
        return tree, None
    cache.mkdir(parents=True, exist_ok=True)
    archives = sorted(cache.glob(f"{package}_*.deb"))
    if not archives:
        fault = run(["apt-get", "download", package], cache)
        if fault:
            return tree, f"{fault} (run `apt-get update`, or put {package}_*.deb of Debian 12 into {cache})"
        archives = sorted(cache.glob(f"{package}_*.deb"))
    partial = cache / f".{package}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    fault = run(["dpkg-deb", "-x", archives[-1].name, partial.name], cache)
    if fault is None:
        partial.replace(tree)
    return tree, fault


def run(command, cache):
    try:
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True)
    except FileNotFoundError:
        return f"`{command[0]}` is not installed"
    if done.returncode:
        return " ".join(done.stderr.strip().splitlines()[-1:]) or f"`{command[0]}` failed"


def write_sources(folder, rows):
    partial = folder / ".SOURCES.tsv.tmp"
    with partial.open("w", encoding="utf-8") as file:
        file.write("\t".join(["file", *COLUMNS]) + "\n")
        for row in rows:
            file.write("\t".join([name(row), *(row[key] for key in COLUMNS)]) + "\n")
    partial.replace(folder / "SOURCES.tsv")


if __name__ == "__main__":
    main()
