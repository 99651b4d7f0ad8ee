"""Pictures for benchmarks: somebody's folder, or JPEGs that are made up, and its split into three."""

import os
import shutil
from pathlib import Path

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def prepare(source: str, work: Path, *, generated: int) -> tuple[str, int]:
    """Links pictures into folders for training, validation and test.

    Args:
        source: folder with a folder of JPEGs for each class; empty: they are generated.
        work: where to.
        generated: how many to generate.

    Returns:
        The folder and how many there are.
    """
    folder = Path(source) if source else generate(work / "generated", generated)
    count = 0
    for of_class in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(of_class.iterdir())
        ends = [0, int(0.7 * len(files)), int(0.85 * len(files)), len(files)]
        for part, start, end in zip(SHARES, ends, ends[1:], strict=False):
            target = work / "pictures" / part / of_class.name
            target.mkdir(parents=True)
            for file in files[start:end]:
                try:
                    os.link(file, target / file.name)
                except OSError:  # another disk
                    shutil.copy(file, target)
            count += end - start
    return str(work / "pictures"), count


def generate(folder: Path, count: int, *, height: int = 300, width: int = 400) -> Path:
    """Writes JPEGs: smooth noise with stripes, whose angle is the class.

    Args:
        folder: where to.
        count: how many.
        height: in pixels.
        width: in pixels.
    """
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    for k in range(count):
        angle = np.pi * (k % 4) / 4 + random.normal(0, 0.1)
        stripes = 60 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / random.uniform(6, 12))
        small = Image.fromarray(random.integers(0, 255, (height // 10, width // 10, 3), np.uint8))
        noise = np.asarray(small.resize((width, height)), np.float32)
        path = folder / f"angle{k % 4}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((noise / 2 + 64 + stripes[..., None]).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder
