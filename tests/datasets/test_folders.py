"""Finding the images of a folder, and remembering them."""

import json
import logging
import os
import pickle
import shutil
import sys

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from super_selfish.datasets import folder_cache, folders
from super_selfish.datasets.folders import OWN, Paths, class_folders, describe_left_out, layout_of, scan
from super_selfish.drawing.figures import save
from super_selfish.drawing.visualize import visualize
from super_selfish.errors import DataError
from super_selfish.files import FIGURES

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and undecodable names")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "index"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root):
    return [os.fsdecode(path) for path in scan(str(root)).images]


def age(root):
    """Make every folder look untouched for an hour."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (1_000_000_000, 1_000_000_000))


class TestPaths:
    def test_like_a_list(self):
        names = [b"a", b"", b"b\nc", b"\xff.jpg"]
        paths = Paths.of(names)
        assert len(paths) == 4
        assert list(paths) == names
        assert [paths[index] for index in range(4)] == names
        for index in (-1, 4):
            with pytest.raises(IndexError):
                paths[index]

    def test_small_to_pickle(self):
        paths = Paths.of([b"%08d.jpg" % number for number in range(1000)])
        assert len(pickle.dumps(paths)) < 1000 * (12 + 8) + 1000


class TestScan:
    def test_every_extension_at_any_depth_in_the_order_of_bytes(self, root):
        fill(
            root, "b.JPG", "a/z.jpeg", "a/b/c.Png", "a.webp", "é.tif", "x.TIFF", "y.bmp", "notes.txt", "z.npy", "w.npy"
        )
        assert found(root) == ["a.webp", "a/b/c.Png", "a/z.jpeg", "b.JPG", "x.TIFF", "y.bmp", "é.tif"]
        assert scan(str(root)).others == {".npy": 2, ".txt": 1}

    def test_hidden_names_are_passed_over(self, root):
        fill(root, ".a.jpg", ".hidden/a.jpg", "__MACOSX/a.jpg", "x/__MACOSX/a.jpg", "x/._a.jpg", "x/a.jpg")
        assert found(root) == ["x/a.jpg"]

    def test_a_folder_named_like_an_image_is_a_folder(self, root):
        fill(root, "a.jpg/b.jpg")
        assert found(root) == ["a.jpg/b.jpg"]

    @pytest.mark.parametrize("name", ["photo", "photo.", "1.2.840.113619", "photo.jpg_large", "photo.jpg?w=200"])
    def test_files_without_an_extension_are_recognised_by_their_content(self, root, name):
        Image.new("RGB", (40, 40)).save(root / name, "JPEG")
        (root / f"{name} notes").write_text("BM, P5 and GIF8 are words too")
        assert found(root) == [name]
        assert sum(scan(str(root)).others.values()) == 1

    def test_what_is_left_out_is_counted_by_extension(self, root):
        fill(root, "a/1.NPY", "a/2.npy", "b/3.svg", "README", "@eaDir/1.jpg", "a/@eaDir/2.jpg", "a/1.jpg")
        others = scan(str(root)).others
        assert others == {".npy": 2, ".svg": 1, "no extension": 1, "@eaDir/": 2}
        text = describe_left_out(others)
        assert "4 files" in text
        assert "2 × .npy" in text
        assert "2 × @eaDir/" in text
        assert describe_left_out({}) == ""

    @posix
    def test_extensions_of_any_bytes_are_reported(self, root):
        (root / os.fsdecode(b"x.\xff\n")).touch()
        assert describe_left_out(scan(str(root)).others).isprintable()

    @posix
    def test_links_are_followed_but_not_in_circles(self, root, tmp_path):
        fill(root, "a/x.jpg")
        fill(tmp_path, "outside/y.jpg")
        (root / "link").symlink_to(tmp_path / "outside")
        (root / "a" / "circle").symlink_to(root)
        (root / "file.jpg").symlink_to(tmp_path / "outside" / "y.jpg")
        (root / "self").symlink_to(root / "self")
        (root / "broken.jpg").symlink_to(tmp_path / "nothing.jpg")
        assert found(root) == ["a/x.jpg", "broken.jpg", "file.jpg", "link/y.jpg"]

    @posix
    def test_any_name_survives(self, root):
        names = [b"a\nb.jpg", b"\xff\xfe.jpg", b" .jpg"]
        for name in names:
            (root / os.fsdecode(name)).touch()
        assert list(scan(str(root)).images) == sorted(names)

    def test_a_missing_folder_is_named(self, root):
        with pytest.raises(DataError, match="gone"):
            scan(str(root / "gone"))


class TestOwnPictures:
    @pytest.fixture
    def photos(self, root):
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            (root / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", (40, 40)).save(root / name)
        return found(root)

    @pytest.mark.parametrize("folder", ["", "a", "store/preview"])
    def test_pictures_that_the_library_writes_are_no_data(self, root, photos, folder):
        figure = Figure(figsize=(1, 1))
        save(figure, root / folder / "figure.png")
        visualize([(torch.rand(3, 32, 32), 5)], folder_path=root / folder)
        assert found(root) == photos
        assert scan(str(root)).others == {OWN: 2}
        assert class_folders(scan(str(root)).images).names == ("a", "b")

    def test_checkpoints_are_passed_over(self, root, photos):
        fill(root, "store/base.ckpt/LATEST", "store/base.ckpt/step-1/trees.json")
        assert scan(str(root)).others == {}
        assert found(root) == photos

    def test_a_copied_folder_keeps_its_list(self, root, photos, tmp_path):
        save(Figure(figsize=(1, 1)), root / "a" / "figure.png")
        shutil.copytree(root, tmp_path / "copy")
        assert found(tmp_path / "copy") == photos

    def test_another_picture_of_the_same_name_is_data(self, root, photos):
        save(Figure(figsize=(1, 1)), root / "a" / "3.png")
        Image.new("RGB", (40, 40)).save(root / "a" / "3.png")
        assert found(root) == sorted([*photos, "a/3.png"])

    def test_a_damaged_list_is_reported_and_ignored(self, root, photos, caplog):
        (root / "a" / FIGURES).write_text("{")
        assert found(root) == photos
        assert FIGURES in caplog.text


class TestClassFolders:
    def groups(self, *names):
        return class_folders(Paths.of(sorted(name.encode() for name in names)))

    def test_numbered_by_name(self):
        names = ("a-b/1.jpg", "a/1.jpg", "a/x/2.jpg", "b/1.jpg")  # "a-b/" sorts before "a/", "a" before "a-b"
        groups = self.groups(*names)
        assert groups.names == ("a", "a-b", "b")
        assert groups.starts == [0, 1, 3]
        assert groups.numbers == [1, 0, 2]

    @pytest.mark.parametrize("names", [("a/1.jpg", "a/2.jpg"), ("1.jpg", "2.jpg"), ("a/1.jpg", "b/1.jpg", "z.jpg")])
    def test_no_classes(self, names):
        assert self.groups(*names) is None


@pytest.mark.parametrize(
    ("beside", "inside", "left_out"), [(1, 2, True), (2, 17, False), (2, 18, True), (0, 5, True), (3, 0, False)]
)
def test_images_beside_class_folders(beside, inside, left_out):
    names = [f"{place}.jpg" for place in range(beside)]
    folders = [f"{'az'[place % 2]}/{place}.jpg" for place in range(inside)]
    layout = layout_of(Paths.of(sorted(name.encode() for name in names + folders)))
    assert sorted(layout.images) == sorted(name.encode() for name in folders + ([] if left_out else names))
    assert bool(layout.remarks) == bool(beside and inside)


class TestCache:
    @pytest.fixture(autouse=True)
    def _from_three(self, monkeypatch):
        monkeypatch.setattr(folder_cache, "CACHED_FROM", 2)

    def index(self, root):
        return [os.fsdecode(path) for path in folder_cache.index_folder(str(root)).images]

    def filled(self, root):
        fill(root, "a/1.jpg", "a/2.jpg", "b/1.jpg")
        age(root)
        return ["a/1.jpg", "a/2.jpg", "b/1.jpg"]

    def test_second_time_without_a_scan(self, root, cache, monkeypatch):
        names = self.filled(root)
        assert self.index(root) == names
        assert len(list(cache.iterdir())) == 1
        monkeypatch.setattr(folder_cache, "scan", lambda _: pytest.fail("scanned"))
        assert self.index(root) == names

    def test_any_change_is_seen(self, root):
        self.filled(root)
        self.index(root)
        fill(root, "b/2.jpg")
        assert "b/2.jpg" in self.index(root)
        age(root)
        self.index(root)
        (root / "a" / "1.jpg").unlink()
        assert "a/1.jpg" not in self.index(root)
        age(root)
        self.index(root)
        fill(root, "c/1.jpg")
        assert "c/1.jpg" in self.index(root)

    def test_a_folder_changed_a_moment_ago_is_not_trusted(self, root, cache):
        self.filled(root)
        os.utime(root / "b")
        self.index(root)
        assert not cache.exists()

    def test_few_files_are_not_kept(self, root, cache):
        fill(root, "1.jpg", "2.jpg")
        age(root)
        self.index(root)
        assert not cache.exists()

    @pytest.mark.parametrize("damage", ["cut", "flip", "header", "empty"])
    def test_a_damaged_cache_is_not_used(self, root, cache, damage):
        names = self.filled(root)
        self.index(root)
        (file,) = cache.iterdir()
        data = bytearray(file.read_bytes())
        if damage == "cut":
            data = data[:-5]
        elif damage == "flip":
            data[data.index(b"a/1.jpg")] ^= 1
        elif damage == "header":
            data[folder_cache._MAGIC.__len__()] ^= 1
        else:
            data = bytearray()
        file.write_bytes(data)
        assert self.index(root) == names

    def test_an_unwritable_cache_is_only_logged(self, root, tmp_path, monkeypatch, caplog):
        names = self.filled(root)
        fill(tmp_path, "file")
        monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path / "file"))
        with caplog.at_level(logging.INFO, "super_selfish"):
            assert self.index(root) == names
        assert "not cached" in caplog.text

    @posix
    def test_names_of_any_bytes_come_back(self, root, monkeypatch):
        names = [b"a\nb.jpg", b"\xff.jpg", b"c.jpg"]
        below = root / os.fsdecode(b"\xfe\n")
        below.mkdir()
        for name in names:
            (below / os.fsdecode(name)).touch()
        age(os.fsencode(root))
        first = list(folder_cache.index_folder(str(root)).images)
        monkeypatch.setattr(folder_cache, "scan", lambda _: pytest.fail("scanned"))
        assert list(folder_cache.index_folder(str(root)).images) == first
        assert first == sorted(b"\xfe\n/" + name for name in names)

    def test_places(self, monkeypatch, tmp_path):
        assert folder_cache.cache_folder() == tmp_path / "cache" / "index"
        monkeypatch.delenv("SUPER_SELFISH_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert folder_cache.cache_folder() == tmp_path / "xdg" / "super_selfish" / "index"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        if sys.platform != "win32":
            assert folder_cache.cache_folder() == tmp_path / ".cache" / "super_selfish" / "index"

    def test_no_pickle(self, root, cache):
        self.filled(root)
        self.index(root)
        (file,) = cache.iterdir()
        magic, header, _ = file.read_bytes().split(b"\n", 2)
        assert magic == b"super_selfish index 2"
        assert json.loads(header)["extensions"] == list(folders.EXTENSIONS)
