"""Data sets of small images as integers: scikit-learn's digits, MNIST, and any folder like MNIST.

Pixels are unsigned bytes; what a byte stands for is the exponent's business. Nothing is shuffled
here except the fixed split of the digits.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILES = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""The four files of an MNIST-like folder, and the md5 of MNIST's own as published (gzipped)."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Where MNIST is downloaded from, tried in this order."""

TIMEOUT_S = 20.0
DIGITS_TEST = 360
DIGITS_SEED = 20200901
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Dataset:
    """A data set split in two.

    Attributes:
        train_x: pixels, uint8 [samples, features].
        train_y: labels, uint8 [samples], 0..classes-1.
        test_x: like `train_x`.
        test_y: like `train_y`.
        name: for reports.
        classes: number of classes.
    """

    train_x: NDArray[np.uint8]
    train_y: NDArray[np.uint8]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.uint8]
    name: str
    classes: int

    @property
    def features(self) -> int:
        """Pixels of an image."""
        return int(self.train_x.shape[1])


def load(name_or_path: str | Path) -> Dataset:
    """Load a data set by name, or from a folder of IDX files.

    Args:
        name_or_path: `digits` (1437 + 360 images of 8x8 pixels inside scikit-learn, no download),
            `mnist` (looked for in `mnist_folders()`, else downloaded to the cache folder), or a
            folder with the four files of `FILES`, gzipped or not.

    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded; the message names it and says
            where to put it.
        ValueError: a file is damaged, or the files do not belong together; the message names the
            file, the value and the bound.
    """
    if name_or_path == "digits":
        return _digits()
    if name_or_path == "mnist":
        for folder in mnist_folders():
            if all(_present(folder, stem) for stem in FILES):
                return _folder(folder, "mnist")
        _download(cache_folder())
        return _folder(cache_folder(), "mnist")
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise FileNotFoundError(f"data set {str(name_or_path)!r} is neither 'digits' nor 'mnist' nor a folder")
    return _folder(folder, folder.name)


def cache_folder() -> Path:
    """Where a downloaded MNIST is kept: `$XDG_CACHE_HOME/procrustes/mnist`, else below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "procrustes" / "mnist"


def mnist_folders() -> list[Path]:
    """Folders searched for MNIST: `$PROCRUSTES_MNIST`, the cache, `shared/data/mnist` beside the repository."""
    named = os.environ.get("PROCRUSTES_MNIST")
    beside = _REPOSITORY.parent / "shared" / "data" / "mnist"
    return ([Path(named)] if named else []) + [cache_folder(), beside]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of bytes, gzipped if its name ends in `.gz`.

    Args:
        path: the file.
        dimensions: how many the file must have (3 for images, 1 for labels).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not gzip, wrong magic, truncated, or too long.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from None
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise ValueError(f"{path}: {len(data)} bytes, the header alone has {header}")
    magic, wanted = int.from_bytes(data[:4], "big"), 0x0800 + dimensions
    if magic != wanted:
        raise ValueError(f"{path}: magic number 0x{magic:08x}, it must be 0x{wanted:08x}")
    shape = [int(n) for n in np.frombuffer(data, ">u4", dimensions, 4)]
    size = math.prod(shape)
    if len(data) != header + size:
        raise ValueError(f"{path}: {len(data) - header} bytes of data, its header promises {size}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _present(folder: Path, stem: str) -> Path | None:
    for path in (folder / stem, folder / f"{stem}.gz"):
        if path.is_file():
            return path
    return None


def _folder(folder: Path, name: str) -> Dataset:
    arrays = []
    for stem, dimensions in zip(FILES, (3, 1, 3, 1), strict=True):
        path = _present(folder, stem)
        if path is None:
            raise FileNotFoundError(f"{folder} has neither {stem} nor {stem}.gz")
        arrays.append(read_idx(path, dimensions))
    train_images, train_y, test_images, test_y = arrays
    for part, images, labels in (("train", train_images, train_y), ("t10k", test_images, test_y)):
        if len(images) != len(labels) or not len(labels):
            raise ValueError(
                f"{folder}: {len(images)} {part} images and {len(labels)} {part} labels,"
                " there must be as many, and at least 1"
            )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{folder}: test images of {_size(test_images)} pixels, the training images have {_size(train_images)}"
        )
    classes = int(train_y.max()) + 1
    if test_y.max() >= classes:
        raise ValueError(f"{folder}: test label {test_y.max()}, the training labels end at {classes - 1}")
    return Dataset(
        train_images.reshape(len(train_y), -1), train_y, test_images.reshape(len(test_y), -1), test_y, name, classes
    )


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"


def _digits() -> Dataset:
    """Pixel values 0..16 become 0..255 as `min(16 * value, 255)`; a seeded permutation is cut in two."""
    from sklearn.datasets import load_digits  # slow to import, needed for nothing else

    images, labels = load_digits(return_X_y=True)
    x = np.minimum(images.astype(np.int64) * 16, 255).astype(np.uint8)
    y = labels.astype(np.uint8)
    # sorted by a hash and not by numpy's generator, whose streams may change with its version
    order = np.array(sorted(range(len(y)), key=lambda i: hashlib.md5(b"%d %d" % (DIGITS_SEED, i)).digest()))
    train, test = order[DIGITS_TEST:], order[:DIGITS_TEST]
    return Dataset(x[train], y[train], x[test], y[test], "digits", 10)


def _download(folder: Path) -> None:
    for stem, md5 in FILES.items():
        if _present(folder, stem):
            continue
        file, problems = f"{stem}.gz", []
        for mirror in MIRRORS:
            try:
                with urllib.request.urlopen(mirror + file, timeout=TIMEOUT_S) as reply:
                    data = reply.read()
            except (urllib.error.URLError, OSError) as error:
                problems.append(f"{mirror}: {error}")
                continue
            found = hashlib.md5(data).hexdigest()
            if found == md5:
                break
            problems.append(f"{mirror}: md5 {found}, it must be {md5}")
        else:
            raise FileNotFoundError(
                f"{file} is in none of {', '.join(map(str, mnist_folders()))} and could not be downloaded"
                f" ({'; '.join(problems)}). Put the four MNIST files into one of these folders,"
                " or name a folder in PROCRUSTES_MNIST."
            )
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{file}.{os.getpid()}.part"
        partial.write_bytes(data)
        partial.replace(folder / file)  # atomic: a parallel run never sees half a file
