"""Data sets: the digits' fixed split, IDX folders, the search path of MNIST, and every refusal."""

import gzip
import hashlib
import io
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from golden import dataset

STEMS = list(dataset.FILES)


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes, written from the format's description."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def contents(images: int = 7, tests: int = 5, side: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(images)
    labels = np.arange(images) % 4
    return [
        rng.integers(0, 256, (images, side, side)),
        labels,
        rng.integers(0, 256, (tests, side, side)),
        labels[::-1][:tests],
    ]


def write(folder: Path, arrays: list[np.ndarray], gzipped: bool = False) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for stem, array in zip(STEMS, arrays, strict=True):
        data = idx(array)
        name, data = (f"{stem}.gz", gzip.compress(data)) if gzipped else (stem, data)
        (folder / name).write_bytes(data)


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search path that lies in the temporary folder, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PROCRUSTES_MNIST", raising=False)
    monkeypatch.setattr(dataset, "_REPOSITORY", tmp_path / "work" / "repository")

    def refuse(url: str, timeout: float) -> None:
        raise urllib.error.URLError(f"no network for {url.rsplit('/', 1)[1]}")

    monkeypatch.setattr(dataset.urllib.request, "urlopen", refuse)
    return tmp_path


def check(loaded: dataset.Dataset, arrays: list[np.ndarray]) -> None:
    assert np.array_equal(loaded.train_x, arrays[0].reshape(len(arrays[0]), -1))
    assert np.array_equal(loaded.train_y, arrays[1])
    assert np.array_equal(loaded.test_x, arrays[2].reshape(len(arrays[2]), -1))
    assert np.array_equal(loaded.test_y, arrays[3])
    assert loaded.train_x.dtype == loaded.test_y.dtype == np.uint8
    assert loaded.features == 9 and loaded.classes == 4


def test_digits() -> None:
    from sklearn.datasets import load_digits

    digits = dataset.load("digits")
    assert digits.train_x.shape == (1437, 64) and digits.test_x.shape == (360, 64)
    assert digits.train_x.dtype == np.uint8 and digits.name == "digits" and digits.classes == 10
    images, labels = load_digits(return_X_y=True)
    original = sorted(
        ((np.where(i == 16, 255, i * 16)).astype(int).tolist(), int(t)) for i, t in zip(images, labels, strict=True)
    )
    both = [*zip(digits.train_x, digits.train_y, strict=True), *zip(digits.test_x, digits.test_y, strict=True)]
    assert sorted((x.tolist(), int(y)) for x, y in both) == original
    assert np.bincount(digits.test_y, minlength=10).min() >= 20
    # the split is part of the reported results: it must never move
    words = hashlib.md5(digits.test_x.tobytes() + digits.test_y.tobytes()).hexdigest()
    assert words == "d68f8a9c89e618436ca82bc1abc2950d"


@pytest.mark.parametrize("gzipped", [False, True])
def test_folder(tmp_path: Path, gzipped: bool) -> None:
    write(tmp_path / "clothing", contents(), gzipped)
    loaded = dataset.load(str(tmp_path / "clothing"))
    check(loaded, contents())
    assert loaded.name == "clothing"


def test_search_path(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, cache = searched / "named", searched / "cache" / "procrustes" / "mnist"
    beside = searched / "work" / "shared" / "data" / "mnist"
    assert dataset.mnist_folders() == [cache, beside]
    write(beside, contents(9), gzipped=True)
    check(dataset.load("mnist"), contents(9))
    write(cache, contents(11))
    check(dataset.load("mnist"), contents(11))
    monkeypatch.setenv("PROCRUSTES_MNIST", str(named))
    check(dataset.load("mnist"), contents(11))
    write(named, contents(13))
    check(dataset.load("mnist"), contents(13))
    assert dataset.load("mnist").name == "mnist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(searched))
    assert dataset.cache_folder() == searched / ".cache" / "procrustes" / "mnist"


def test_mnist_without_network_says_where_to_put_it(searched: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        dataset.load("mnist")
    message = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz is in none of",
        str(searched / "cache" / "procrustes" / "mnist"),
        str(searched / "work" / "shared" / "data" / "mnist"),
        "PROCRUSTES_MNIST",
        *dataset.MIRRORS,
        "no network for train-images-idx3-ubyte.gz",
    ):
        assert part in message
    assert not (searched / "cache").exists()


def test_download_is_verified_and_kept(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = {f"{stem}.gz": gzip.compress(idx(array), mtime=0) for stem, array in zip(STEMS, contents(), strict=True)}
    sums = {name[:-3]: hashlib.md5(data).hexdigest() for name, data in served.items()}
    monkeypatch.setattr(dataset, "FILES", sums)
    asked: list[str] = []

    def serve(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        mirror, name = url.rsplit("/", 1)
        damaged = mirror + "/" == dataset.MIRRORS[0] and name.startswith("t10k-labels")
        return io.BytesIO(b"damaged" if damaged else served[name])

    monkeypatch.setattr(dataset.urllib.request, "urlopen", serve)
    check(dataset.load("mnist"), contents())
    want = [dataset.MIRRORS[0] + name for name in served] + [dataset.MIRRORS[1] + "t10k-labels-idx1-ubyte.gz"]
    assert asked == want
    check(dataset.load("mnist"), contents())
    assert asked == want, "the second time it comes from the cache"
    kept = {path.name: path.read_bytes() for path in dataset.cache_folder().iterdir()}
    assert kept == served


def test_wrong_md5_everywhere(searched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"other"))
    found = hashlib.md5(b"other").hexdigest()
    with pytest.raises(FileNotFoundError, match=f"md5 {found}, it must be f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        dataset.load("mnist")


def test_published_mnist() -> None:
    """Against the published md5s, where the files are at hand."""
    for folder in dataset.mnist_folders():
        paths = [folder / f"{stem}.gz" for stem in STEMS]
        if all(path.is_file() for path in paths):
            sums = [hashlib.md5(path.read_bytes()).hexdigest() for path in paths]
            assert sums == list(dataset.FILES.values())
            loaded = dataset.load("mnist")
            assert loaded.train_x.shape == (60000, 784) and loaded.test_x.shape == (10000, 784)
            assert loaded.train_y[:5].tolist() == [5, 0, 4, 1, 9] and loaded.classes == 10
            return
    pytest.skip("MNIST is in none of the folders searched")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data set 'nmist' is neither 'digits' nor 'mnist' nor a folder"):
        dataset.load("nmist")


def test_missing_file(tmp_path: Path) -> None:
    write(tmp_path, contents())
    (tmp_path / STEMS[3]).unlink()
    with pytest.raises(FileNotFoundError, match=f"has neither {STEMS[3]} nor {STEMS[3]}.gz"):
        dataset.load(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx(np.zeros((7, 3, 3)))[:-1], "62 bytes of data, its header promises 63"),
        (idx(np.zeros((7, 3, 3))) + b"x", "64 bytes of data, its header promises 63"),
        (idx(np.zeros((7, 3, 3)))[:15], "15 bytes, the header alone has 16"),
        (b"", "0 bytes, the header alone has 16"),
        (idx(np.zeros((7, 9))) + bytes(9), "magic number 0x00000802, it must be 0x00000803"),
        (b"<html>" + bytes(40), "magic number 0x3c68746d, it must be 0x00000803"),
    ],
    ids=["short", "long", "half a header", "empty", "labels", "web page"],
)
def test_damaged_images(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path, contents())
    (tmp_path / STEMS[0]).write_bytes(data)
    with pytest.raises(ValueError, match=f"{STEMS[0]}: {message}"):
        dataset.load(tmp_path)


@pytest.mark.parametrize(
    "how",
    [
        lambda data: data[:-9],
        lambda data: b"plain text",
        lambda data: data[:10] + b"\x07" + data[11:],
        lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
    ],
    ids=["truncated", "not gzip", "reserved block type", "wrong checksum"],
)
def test_damaged_gzip(tmp_path: Path, how: object) -> None:
    write(tmp_path, contents(), gzipped=True)
    path = tmp_path / f"{STEMS[1]}.gz"
    path.write_bytes(how(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"{STEMS[1]}.gz: damaged gzip file"):
        dataset.load(tmp_path)


@pytest.mark.parametrize(
    ("number", "array", "message"),
    [
        (1, np.zeros(6), "7 train images and 6 train labels, there must be as many, and at least 1"),
        (3, np.zeros(6), "5 t10k images and 6 t10k labels, there must be as many, and at least 1"),
        (2, np.zeros((5, 3, 4)), "test images of 3x4 pixels, the training images have 3x3"),
        (3, np.array([0, 1, 2, 3, 4]), "test label 4, the training labels end at 3"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, number: int, array: np.ndarray, message: str) -> None:
    arrays = contents()
    arrays[number] = array
    write(tmp_path, arrays)
    with pytest.raises(ValueError, match=message):
        dataset.load(tmp_path)


def test_empty_set(tmp_path: Path) -> None:
    write(tmp_path, [np.zeros((0, 3, 3)), np.zeros(0), *contents()[2:]])
    with pytest.raises(ValueError, match="0 train images and 0 train labels"):
        dataset.load(tmp_path)
