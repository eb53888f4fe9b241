#!/usr/bin/env python3
"""How large photographs may be that NIQE's pristine model is fitted to: the LIMIT of the example `fit_niqe`.

    cargo build --release --workspace --examples
    python scripts/niqe_limit.py PHOTOS [--limits 1024,1536,2048,3072,100000]

The photographs are halved by turns. A model fitted to one half scores crops of the other half and the same crops after
`dp2o degrade`, enlarged again by Pillow's bicubic filter. Prints, for each limit, the share of crops that the model
finds nearer to pristine than what became of them. Needs Pillow.
"""

import argparse
import csv
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def crops(args, photos, folder):
    """Folders of HR crops and of LR ones enlarged."""
    sizes = ["--set", "degrade.crop=256", "--set", "degrade.crops_per_photo=4"]
    run(args.bin / "dp2o", "degrade", photos, "--out", folder, *sizes)
    enlarged = folder / "enlarged"
    enlarged.mkdir()
    for path in (folder / "data/lr").iterdir():
        Image.open(path).resize((256, 256), Image.Resampling.BICUBIC).save(enlarged / path.name)
    return folder / "data/hr", enlarged


def scores(args, model, pictures):
    rows = run(args.bin / "dp2o", "score", "--quiet", "--metrics", "niqe", "--weights", f"niqe={model}", "--format", "csv",
               pictures)
    return {Path(row["image"]).name: float(row["value"]) for row in csv.DictReader(rows.splitlines())}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("photos", type=Path)
    p.add_argument("--limits", default="1024,1536,2048,3072,100000")
    p.add_argument("--bin", type=Path, default=ROOT / "target/release", help="where dp2o and examples/fit_niqe are")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        halves = []
        for half in range(2):
            photos = Path(folder) / f"photos-{half}"
            photos.mkdir()
            for path in sorted(args.photos.iterdir())[half::2]:
                (photos / path.name).symlink_to(path.resolve())
            halves.append((photos, *crops(args, photos, Path(folder) / f"run-{half}")))
        for limit in args.limits.split(","):
            right, count = 0, 0
            for (photos, _, _), (_, pristine, enlarged) in zip(halves, halves[::-1]):
                model = Path(folder) / "model.safetensors"
                run(args.bin / "examples/fit_niqe", photos, model, limit)
                better, worse = scores(args, model, pristine), scores(args, model, enlarged)
                right += sum(better[name] < worse[name] for name in worse)
                count += len(worse)
            print(f"{limit}: {right} of {count}, {right / count:.1%}", flush=True)


if __name__ == "__main__":
    main()
