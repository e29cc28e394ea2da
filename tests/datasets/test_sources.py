"""One door for every kind of data."""

import logging
import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from super_selfish.datasets.sources import ImageSource, open_source
from super_selfish.errors import ConfigurationError, DataError, UnreadableImage
from super_selfish.images.image_files import Header
from super_selfish.supervisors import all_supervisors

posix = pytest.mark.skipif(sys.platform == "win32", reason="backslashes in names and undecodable names")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SUPER_SELFISH_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(path, value=0, mode="RGB", size=(7, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for value, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/deep/2.png")):
        save(tmp_path / "photos" / name, value)
    return tmp_path / "photos"


def values(source):
    return [int(source.read(index).flat[0]) for index in range(len(source))]


def labels(source):
    return [source.label(index) for index in range(len(source))]


class TestFolder:
    def test_images_names_and_labels(self, folder):
        for data in (folder, str(folder)):
            source = open_source(data)
            assert isinstance(source, ImageSource)
            assert (source.kind, source.thread_safe, len(source)) == ("files", True, 4)
            assert values(source) == [0, 1, 2, 3]
            assert [source.name(index) for index in range(4)] == [
                "cat/1.png",
                "cat/2.png",
                "dog/1.png",
                "dog/deep/2.png",
            ]
            assert labels(source) == [0, 0, 1, 1]
            assert source.class_names == ("cat", "dog")
            assert source.header(0) == Header(5, 7, 3, "uint8")
            assert source.item(2)[1] == 1

    def test_a_bare_folder_has_no_labels(self, folder):
        source = open_source(folder / "dog")
        assert labels(source) == [None, None]
        assert source.class_names is None
        assert values(source) == [2, 3]

    def test_pickles(self, folder):
        copy = pickle.loads(pickle.dumps(open_source(folder)))
        assert (values(copy), labels(copy)) == ([0, 1, 2, 3], [0, 0, 1, 1])

    def test_fingerprint(self, folder, tmp_path):
        before = open_source(folder).fingerprint()
        assert before == open_source(folder).fingerprint()
        assert (before["kind"], before["length"], before["content"]) == ("files", 4, "names and sizes")
        folder.rename(tmp_path / "moved")
        assert open_source(tmp_path / "moved").fingerprint() == before
        save(tmp_path / "moved" / "cat" / "1.png", size=(70, 50))
        changed = open_source(tmp_path / "moved").fingerprint()
        assert changed["sha256"] != before["sha256"]
        (tmp_path / "moved" / "cat" / "1.png").rename(tmp_path / "moved" / "cat" / "0.png")
        assert open_source(tmp_path / "moved").fingerprint()["sha256"] != changed["sha256"]

    def test_fingerprint_of_many_files_asks_for_no_sizes(self, folder, monkeypatch):
        monkeypatch.setattr("super_selfish.datasets.file_sources._SIZES_UP_TO", 3)
        monkeypatch.setattr("super_selfish.datasets.file_sources._size_and_time", lambda _: pytest.fail("asked"))
        assert open_source(folder).fingerprint()["content"] == "names"

    def test_nothing_found_says_what_is_there(self, tmp_path):
        (tmp_path / "data").mkdir()
        with pytest.raises(DataError, match=r"no images.*\.jpg"):
            open_source(tmp_path / "data")
        for name in ("a.npy", "b.npy", "c.svg"):
            (tmp_path / "data" / name).touch()
        with pytest.raises(DataError, match=r"2 × \.npy, 1 × \.svg"):
            open_source(tmp_path / "data")

    def test_paths_that_are_no_folder(self, folder):
        with pytest.raises(ConfigurationError, match="gone"):
            open_source(folder / "gone")
        with pytest.raises(ConfigurationError, match="single image"):
            open_source(folder / "cat" / "1.png")
        (folder / "x.zip").touch()
        with pytest.raises(ConfigurationError, match=r"x\.zip"):
            open_source(folder / "x.zip")
        with pytest.raises(ConfigurationError, match="path of a folder"):
            open_source("")

    def test_minimum(self, tmp_path):
        save(tmp_path / "one" / "1.png")
        assert len(open_source(tmp_path / "one")) == 1
        with pytest.raises(DataError, match=r"too few.*at least 2.*Received: 1"):
            open_source(tmp_path / "one", minimum=2)

    def test_limit_of_pixels(self, folder):
        with pytest.raises(DataError, match="max_pixels=34"):
            open_source(folder, max_pixels=34).read(0)
        assert open_source(folder, max_pixels=35).header(0).width == 7

    def test_alpha_is_reported_once(self, tmp_path, caplog):
        for name in "abc":
            save(tmp_path / "data" / f"{name}.png", mode="RGBA")
        source = open_source(tmp_path / "data")
        with caplog.at_level(logging.INFO, "super_selfish"):
            assert [source.header(index).channels for index in range(3)] == [3, 3, 3]
            source.read(0)
        assert caplog.text.count("alpha channel") == 1

    def test_out_of_range(self, folder):
        for index in (-1, 4):
            with pytest.raises(IndexError):
                open_source(folder).read(index)


def test_a_few_images_beside_class_folders_are_left_out_by_name(folder, caplog):
    before = open_source(folder)
    assert not caplog.records
    save(folder / "lone\u2028.png", 9)
    for _ in range(2):
        source = open_source(folder)
        assert (source.class_names, labels(source)) == (before.class_names, labels(before))
    (record,) = caplog.records
    assert "lone\\u2028.png" in record.getMessage()


@pytest.mark.parametrize(("beside", "is_reported"), [(2, True), (9, False)])
def test_more_images_beside_folders_make_no_classes(folder, beside, is_reported, caplog):
    for place in range(beside):
        save(folder / f"{place}.png", place)
    assert set(labels(open_source(folder))) == {None}
    assert ("no image has a label" in caplog.text) == is_reported


def test_folders_of_parts_are_reported(folder, caplog):
    save(folder / "parts" / "train" / "cat" / "1.png", 1)
    save(folder / "parts" / "Test" / "cat" / "1.png", 2)
    assert open_source(folder / "parts").class_names == ("Test", "train")
    assert "parts of a data set" in caplog.text


class TestLists:
    def test_paths(self, folder):
        paths = [folder / "dog" / "1.png", str(folder / "cat" / "2.png")]
        for data in (paths, tuple(paths), np.array([str(path) for path in paths])):
            source = open_source(data)
            assert source.kind == "files"
            assert values(source) == [2, 1]
            assert source.name(1) == paths[1]
            assert labels(source) == [None, None]

    def test_paths_with_labels(self, folder):
        paths = [str(folder / "dog" / "1.png"), str(folder / "cat" / "2.png")]
        assert labels(open_source((paths, [5, 3]))) == [5, 3]
        assert labels(open_source((folder, torch.arange(4)))) == [0, 1, 2, 3]

    def test_fingerprint_of_moved_paths(self, folder, tmp_path):
        names = ["cat/1.png", "dog/1.png"]
        before = open_source([folder / name for name in names]).fingerprint()
        folder.rename(tmp_path / "elsewhere")
        assert open_source([tmp_path / "elsewhere" / name for name in names]).fingerprint() == before

    def test_unreadable_files_are_named_when_read(self, folder):
        (folder / "dir.jpg").mkdir()
        source = open_source([folder / "dir.jpg", folder / "gone.jpg"])
        for index, name in enumerate((r"dir\.jpg", r"gone\.jpg")):
            with pytest.raises(DataError, match=name):
                source.read(index)

    def test_images(self):
        images = [Pillow.new("L", (7, 5), 9), Pillow.new("RGB", (9, 9), (8, 8, 8))]
        source = open_source(images)
        assert (source.kind, source.thread_safe) == ("dataset", False)
        assert values(source) == [9, 8]
        assert source.header(1) == Header(9, 9, 3, "uint8")
        assert open_source([np.zeros((5, 7)), torch.zeros(3, 9, 8)]).header(1) == Header(9, 8, 3, "float32")
        assert labels(open_source((images, np.array([1, 0])))) == [1, 0]
        assert labels(open_source(list(zip(images, [4, 2], strict=True)))) == [4, 2]

    @pytest.mark.parametrize("data", [[1, 2], ["a.jpg", np.zeros((5, 5))], [None]])
    def test_anything_else_is_refused(self, data):
        with pytest.raises(ConfigurationError, match="does not hold images"):
            open_source(data)

    def test_empty(self):
        with pytest.raises(DataError, match="empty"):
            open_source([])


class TestTable:
    def table(self, folder, text):
        (folder / "list.csv").write_text(text, encoding="utf-8-sig")
        return open_source(folder / "list.csv")

    @pytest.mark.parametrize("column", ["path", "File", "filename", "image", "file_path"])
    def test_header(self, folder, column):
        source = self.table(folder, f"id,{column},label\n7,dog/1.png,3\n8,cat/1.png,1\n")
        assert source.kind == "files"
        assert (values(source), labels(source), source.class_names) == ([2, 0], [3, 1], None)

    def test_words_are_numbered_in_order(self, folder):
        source = self.table(folder, "class;path\nzebra;dog/1.png\nape;cat/1.png\n;cat/2.png\n")
        assert (labels(source), source.class_names) == ([1, 0, None], ("ape", "zebra"))

    def test_no_header(self, folder):
        source = self.table(folder, f"dog/1.png,0\n{folder / 'cat' / '1.png'},1\n\n")
        assert (values(source), labels(source)) == ([2, 0], [0, 1])
        assert labels(self.table(folder, "dog/1.png\ncat/1.png")) == [None, None]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_text_as_spreadsheets_write_it(self, folder, encoding, delimiter):
        save(folder / "é" / "1.png", 9)
        mark = "" if encoding in ("utf-8", "utf-8-sig", "utf-16") else "\ufeff"
        rows = [["path", "label"], ["é/1.png", "chèvre"], ["cat/1.png", "cat"]]
        text = mark + "\r\n".join(delimiter.join(row) for row in rows)
        (folder / "table.csv").write_bytes(text.encode(encoding))
        source = open_source(folder / "table.csv")
        assert (values(source), source.class_names) == ([9, 0], ("cat", "chèvre"))

    def test_utf_16_without_a_mark_is_named(self, folder):
        (folder / "table.csv").write_bytes("path,label\ncat/1.png,1".encode("utf-16-le"))
        with pytest.raises(DataError, match="UTF-8"):
            open_source(folder / "table.csv")

    @posix
    def test_backslashes_of_windows(self, folder):
        odd = save(folder / "cat\\odd.png", 7)
        source = self.table(folder, "path,label\ncat\\1.png,1\ndog\\deep\\2.png,2\ncat\\odd.png,3")
        assert values(source) == [0, 3, 7]
        assert values(open_source([f"{folder}\\dog/deep\\2.png", str(odd)])) == [3, 7]
        with pytest.raises(DataError, match="Windows"):
            self.table(folder, "path\nC:\\images\\1.png")

    @posix
    def test_paths_that_are_not_utf_8(self, folder):
        name = os.fsdecode(b"caf\xe9.png")
        save(folder / name, 5)
        (folder / "table.csv").write_bytes(b"path,label\ncaf\xe9.png,caf\xe9\ncat/1.png,cat")
        source = open_source(folder / "table.csv")
        assert values(source) == [5, 0]
        assert source.name(0) == name

    def test_windows_1252_is_read_where_the_files_confirm_it(self, folder):
        save(folder / "é" / "ñ€.png", 9)
        (folder / "table.csv").write_bytes("path,label,by\né\\ñ€.png,chèvre,Zoë\ncat/1.png,cat,Al".encode("cp1252"))
        source = open_source(folder / "table.csv")
        assert (values(source), source.class_names) == ([9, 0], ("cat", "chèvre"))

    @pytest.mark.parametrize("row", ["cat/1.png,été", "é.png,cat", "\x81é.png,cat"])
    def test_another_encoding_is_named_with_the_way_out(self, folder, row):
        (folder / "table.csv").write_bytes(f"path,label\n{row}\ndog/1.png,dog".encode("latin-1"))
        with pytest.raises(DataError, match=r"table\.csv.*not UTF-8.*iconv"):
            open_source(folder / "table.csv")

    def test_another_encoding_of_columns_that_are_not_read(self, folder):
        (folder / "table.csv").write_bytes("path,label,by\ncat/1.png,cat,José".encode("latin-1"))
        assert open_source(folder / "table.csv").class_names == ("cat",)

    @posix
    @pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\x1c"])
    def test_unusual_line_separators_are_part_of_a_name(self, folder, mark):
        save(folder / f"a{mark}b.png", 9)
        assert values(self.table(folder, f"path,label\na{mark}b.png,1\r\ncat/1.png,2")) == [9, 0]

    def test_rows_of_one_file_and_zeros_before_numbers_are_reported(self, folder, caplog):
        self.table(folder, "path,label\ncat/1.png,01\ncat/1.png,1\ndog/1.png,2\n")
        assert "cat/1.png is listed more than once" in caplog.text
        assert "01 and 1" in caplog.text
        caplog.clear()
        self.table(folder, "path,label\ncat/1.png,01\ndog/1.png,2\ncat/2.png,2.0\n")
        assert not caplog.records

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("", "lists no images"),
            ("path,label\n", "lists no images"),
            ("where,label\ndog/1.png,1", "no column of paths"),
            ("path,label\n,1", "Entry 1"),
            ("path\nnot/there.png\nnor/there.png", "None of 2 files"),
        ],
    )
    def test_mistakes(self, folder, text, match):
        with pytest.raises(DataError, match=match):
            self.table(folder, text)


class TestArrays:
    @pytest.mark.parametrize(
        ("data", "header"),
        [
            (np.zeros((4, 28, 30), np.uint8), Header(28, 30, 1, "uint8")),
            (np.zeros((4, 28, 30, 3), np.uint16), Header(28, 30, 3, "uint16")),
            (np.zeros((4, 3, 64, 64), np.float64), Header(64, 64, 3, "float32")),
            (np.zeros((4, 16, 16, 13), np.float16), Header(16, 16, 13, "float32")),
            (np.zeros((4, 9, 9, 30), bool), Header(9, 9, 30, "uint8")),
            (torch.zeros(4, 28, 28, 1), Header(28, 28, 1, "float32")),
            (torch.zeros(4, 3, 28, 30), Header(28, 30, 3, "float32")),
            (torch.zeros(4, 2, 28, 30, dtype=torch.uint8), Header(28, 30, 2, "uint8")),
            (torch.zeros(4, 28, 30, dtype=torch.int64), Header(28, 30, 1, "uint16")),
            (torch.zeros(4, 3, 28, 30, dtype=torch.bfloat16), Header(28, 30, 3, "float32")),
        ],
    )
    def test_layouts(self, data, header):
        source = open_source(data)
        assert (source.kind, source.thread_safe, len(source), source.name(2)) == ("arrays", True, 4, "2")
        assert source.header(3) == header
        image = source.read(3)
        assert (*image.shape, image.dtype.name) == header
        assert image.flags.c_contiguous

    def test_values_are_copied(self):
        data = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3).astype(np.float32)
        source = open_source(data)
        source.read(1)[:] = 0
        np.testing.assert_array_equal(source.read(1), data[1])
        np.testing.assert_array_equal(open_source(torch.from_numpy(data).permute(0, 3, 1, 2)).read(1), data[1])

    def test_labels(self):
        source = open_source((np.zeros((3, 8, 8)), [2, 0, 1]))
        assert (labels(source), source.kind) == ([2, 0, 1], "arrays")
        assert labels(open_source((np.zeros((3, 8, 8)), None))) == [None] * 3

    @pytest.mark.parametrize(
        "wrong", [[1, 2], [0.5, 1, 2], ["a", "b", "c"], np.zeros((3, 1), int), [[1], [2, 3], [4]], []]
    )
    def test_wrong_labels(self, wrong):
        with pytest.raises((ConfigurationError, DataError)):
            open_source((np.zeros((3, 8, 8)), wrong))

    def test_fingerprint(self):
        data = np.zeros((5, 8, 8), np.uint8)
        before = open_source(data).fingerprint()
        assert before["length"] == 5
        assert open_source(data.copy()).fingerprint() == before
        data[4, 7, 7] = 1
        assert open_source(data).fingerprint() != before

    @pytest.mark.parametrize(
        "data",
        [
            np.zeros((8, 8)),
            np.zeros(3),
            np.zeros((64, 64, 3)),
            np.zeros((2, 8, 8), complex),
            torch.zeros(2, 2, 2, 2, 2),
        ],
    )
    def test_not_images(self, data):
        with pytest.raises(ConfigurationError):
            open_source(data)

    def test_empty(self):
        with pytest.raises(DataError, match="too few"):
            open_source(np.zeros((0, 8, 8, 3)))


class Squares(Dataset):
    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.make(index)


class HuggingFace:
    """As far as it can be told from outside."""

    def __init__(self, rows):
        self.rows = rows
        self.column_names = list(rows[0])
        self.features = {"label": type("ClassLabel", (), {"names": ["ape", "bee"]})()}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class TestDatasets:
    @pytest.mark.parametrize(
        ("make", "label"),
        [
            (lambda i: Pillow.new("L", (8, 8), i), None),
            (lambda i: (np.full((8, 8, 3), i, np.uint8), i), 2),
            (lambda i: [torch.full((3, 8, 8), i, dtype=torch.uint8), torch.tensor(i)], 2),
            (lambda i: (np.full((8, 8), i, np.uint8), 0.5, "meta"), None),
            (lambda i: {"meta": "x", "photo": np.full((8, 8), i, np.uint8), "target": np.int64(i)}, 2),
        ],
    )
    def test_items(self, make, label):
        source = open_source(Squares(make))
        assert (source.kind, source.thread_safe) == ("dataset", False)
        assert values(source) == [0, 1, 2]
        assert source.label(2) == label
        assert source.header(1)[:2] == (8, 8)

    @pytest.mark.parametrize(
        ("keys", "image_key", "right"),
        [
            (("mask", "image"), None, "image"),
            (("a mask", "Image", "depth"), None, "Image"),
            (("mask", "scene"), "scene", "scene"),
            (("image", "img"), "img", "img"),
            (("image", "mask"), "mask", "mask"),
        ],
    )
    def test_items_with_several_images(self, keys, image_key, right):
        items = [
            {key: np.full((8, 8), index + 100 * (key != right), np.uint8) for key in keys} | {"label": index}
            for index in range(3)
        ]
        source = pickle.loads(pickle.dumps(open_source(items, image_key=image_key)))
        assert values(source) == labels(source) == [0, 1, 2]

    @pytest.mark.parametrize("keys", [("mask", "scene"), ("image", "pixel_values"), ("left", "right", "depth")])
    def test_several_images_are_no_guess(self, keys):
        source = open_source(Squares(lambda i: {key: np.full((8, 8), i, np.uint8) for key in keys}))
        with pytest.raises(DataError, match="image_key") as error:
            source.read(0)
        assert all(repr(key) in str(error.value) for key in keys)

    def test_an_item_without_the_image_of_the_others(self):
        source = open_source(
            Squares(lambda i: {"mask": np.zeros((8, 8)), "scene": None if i else np.ones((8, 8))}), image_key="scene"
        )
        assert source.read(0).max() == 1
        with pytest.raises(UnreadableImage, match="scene"):
            source.read(1)

    def test_tuples_of_images(self, caplog):
        data = Squares(lambda i: (np.full((8, 8), i, np.uint8), np.full((8, 8), 100 + i, np.uint8), i))
        assert values(open_source(data)) == [0, 1, 2]
        assert caplog.text.count("image_key") == 1
        assert values(open_source(data, image_key=1)) == [100, 101, 102]
        with pytest.raises(DataError):
            open_source(data, image_key=3).read(0)

    @pytest.mark.parametrize("data", [np.zeros((4, 8, 8), np.uint8), [np.zeros((8, 8), np.uint8)] * 2])
    def test_image_key_has_no_place_elsewhere(self, data):
        with pytest.raises((ConfigurationError, DataError), match="image_key"):
            open_source(data, image_key="image").read(0)

    @pytest.mark.parametrize("algorithm", all_supervisors())
    def test_every_algorithm_takes_image_key(self, algorithm):
        shape = (16, 40, 40, 3)
        scenes = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        data = [{"mask": np.zeros((40, 40), np.uint8), "scene": scene} for scene in scenes]
        make = all_supervisors()[algorithm]
        with pytest.raises(DataError, match="image_key"):
            make(data, backbone="small_resnet")
        supervisor = make(data, backbone="small_resnet", image_key="scene")
        assert np.array_equal(supervisor.image_dataset.read(3), scenes[3])
        assert "image_key" not in supervisor.hyperparameters()

    def test_torch_datasets(self):
        data = TensorDataset(torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 8, 8) / 4, torch.arange(4))
        assert labels(open_source(Subset(data, [3, 1]))) == [3, 1]

    def test_hugging_face(self, tmp_path):
        path = save(tmp_path / "a.png", 1)
        for image in (
            Pillow.new("L", (8, 8), 1),
            {"bytes": path.read_bytes(), "path": None},
            {"path": str(path)},
            [[1, 1], [1, 1]],
        ):
            source = open_source(HuggingFace([{"id": 5, "name": "x", "anything": image, "label": 1}] * 2))
            assert values(source) == [1, 1]
            assert labels(source) == [1, 1]
            assert source.class_names == ("ape", "bee")

    def test_damaged_bytes_are_named_by_index(self):
        source = open_source(HuggingFace([{"image": {"bytes": b"x", "path": None}}] * 2))
        with pytest.raises(DataError, match="Item 1"):
            source.read(1)

    def test_errors_of_the_users_code_are_named_by_index(self):
        source = open_source(Squares(lambda _: 1 // 0))
        with pytest.raises(DataError, match=r"Item 1.*ZeroDivisionError") as caught:
            source.read(1)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(DataError, match="Item 0"):
            open_source(Squares(lambda _: {"text": "x"})).read(0)
        with pytest.raises(DataError, match="Item 0"):
            open_source(Squares(lambda _: object())).read(0)

    def test_fingerprint(self):
        data = Squares(lambda _: None)
        assert open_source(data).fingerprint() == open_source(data).fingerprint()
        assert open_source(data).fingerprint()["length"] == 3

    def test_sources_are_returned_unchanged(self):
        source = open_source(np.zeros((2, 8, 8)))
        assert open_source(source) is source

    def test_streams_are_refused_with_advice(self):
        class KeyedGenerator(IterableDataset):
            def __iter__(self):
                return iter([])

        for data in (KeyedGenerator(), (x for x in "ab"), iter([])):
            with pytest.raises(ConfigurationError, match="list"):
                open_source(data)
        with pytest.raises(ConfigurationError, match=r"loader\.dataset"):
            open_source(DataLoader(TensorDataset(torch.zeros(2, 3, 8, 8))))
        with pytest.raises(ConfigurationError, match="train"):
            open_source({"train": 1})

    @pytest.mark.parametrize("data", [None, 5, object(), b"bytes", Path])
    def test_other_kinds_list_what_is_accepted(self, data):
        with pytest.raises(ConfigurationError, match=r"a folder.*Dataset"):
            open_source(data)


def test_reading_gives_no_warnings(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values(open_source(folder))


@pytest.mark.parametrize("shape", [(40, 40, 65), (64, 64, 128), (40, 48, 100)])
@pytest.mark.parametrize("form", ["array", "items", "tensor"])
def test_too_many_channels_are_not_taken_for_a_width(shape, form):
    images = np.zeros((3, *shape), np.uint8)
    if form == "tensor":
        images = torch.from_numpy(images).permute(0, 3, 1, 2)
    with pytest.raises(DataError, match=r"no axis that can be its channels.*Select channels"):
        open_source(list(images) if form == "items" else images).read(0)


def test_arrays_whose_channels_are_clearly_first_are_read():
    for shape in ((2, 13, 80, 80), (2, 3, 65, 100), (2, 50, 128, 128)):
        assert open_source(np.zeros(shape, np.uint8)).read(0).shape == (*shape[2:], shape[1])


@pytest.mark.parametrize("tensor", [torch.zeros(3, 3, 40, 40, device="meta"), torch.zeros(3, 3, 40, 40).to_sparse()])
def test_tensors_without_dense_values_are_refused(tensor):
    with pytest.raises(ConfigurationError, match="dense tensor"):
        open_source(tensor)
