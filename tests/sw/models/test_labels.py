"""Which class a folder of images is: the labels themselves, and the number of images that are right by them."""

import dataclasses
import shutil

import numpy as np
import pytest

from vitforge import api
from vitforge_sw.models.files import list_images, some_images, spread
from vitforge_sw.models.labels import folder_classes, labelled_images
from vitforge_sw.models.timm_import import import_timm

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def graph(digits):
    """The shipped network: 397 of its 400 held-out scans are right."""
    return digits.quantize("vitforge")


@pytest.fixture(scope="module")
def folders(digits, tmp_path_factory):
    """The first 8 held-out scans of each digit, one folder per digit."""
    top, taken = tmp_path_factory.mktemp("digits"), [0] * 10
    for path, label in labelled_images(digits.paths.test, digits.paths.labels):
        if taken[label] < 8:
            taken[label] += 1
            (top / str(label)).mkdir(exist_ok=True)
            shutil.copy(path, top / str(label) / path.name)
    return top


def copied(folders, tmp_path, digits="0123456789", rename=str):
    for d in digits:
        shutil.copytree(folders / d, tmp_path / rename(int(d)))
    return tmp_path


def with_labels(graph, names):
    return dataclasses.replace(graph, meta=graph.meta | {"labels": list(names)})


def score(graph, folder, **options) -> tuple[int, int, list[str]]:
    """(images, right, lines)"""
    notes = []
    result = api.evaluate(graph, folder, notes=notes, **options)
    return result["images"], result["top1"], notes


def refusal(graph, folder) -> str:
    with pytest.raises(ValueError) as caught:
        api.evaluate(graph, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_classes(graph, folders):
    assert score(graph, folders) == (80, 80, ["labels: 10 class folders matched by name to the model's 10 labels"])


def test_some_classes(graph, folders, tmp_path):
    """A folder's name decides, not its position: 2 is the third class even where 0 and 1 are missing."""
    assert score(graph, copied(folders, tmp_path, "23456789"))[:2] == (64, 64)


def test_hidden_and_empty_folders_are_no_classes(graph, folders, tmp_path):
    copied(folders, tmp_path)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    shutil.copy(next((folders / "7").iterdir()), tmp_path / ".ipynb_checkpoints" / "x.png")
    (tmp_path / "00 empty").mkdir()
    (tmp_path / "00 empty" / "notes.txt").write_text("nothing to see")
    (tmp_path / "3" / "._scan.png").write_bytes(b"Mac OS X")  # AppleDouble: named like an image, is none
    assert score(graph, tmp_path)[:2] == (80, 80)
    assert score(with_labels(graph, []), tmp_path)[:2] == (80, 80)  # alphabetical: neither counts as a class


def test_links_are_followed(graph, folders, tmp_path):
    for d in "0123456789":
        (tmp_path / d).symlink_to(folders / d, target_is_directory=True)
    assert score(graph, tmp_path)[:2] == (80, 80)
    single = tmp_path / "single"
    for d in "01":
        (single / d).mkdir(parents=True)
        for path in (folders / d).iterdir():
            (single / d / path.name).symlink_to(path)
    assert score(graph, single)[:2] == (16, 16)
    (single / "0" / "back").symlink_to(single)  # a link to a folder above
    assert len(list_images(single)) == 16
    (single / "1" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "gone.png: is a link to" in refusal(graph, single)


def test_names_in_another_order_than_alphabetical(graph, folders, tmp_path):
    copied(folders, tmp_path, rename=lambda d: NAMES[d])
    assert score(with_labels(graph, NAMES), tmp_path)[:2] == (80, 80)
    lines = score(with_labels(graph, []), tmp_path)[2]  # no names to match: eight is taken for class 0, and said so
    assert lines == ["labels: 10 class folders in alphabetical order (eight = 0, zero = 9)"]


def test_case_gaps_and_accents(graph, folders, tmp_path):
    names = ["Café au lait", "Crème_brûlée", *NAMES[2:]]
    written = ["cafe\u0301-au-lait", "CRE\u0300ME BRU\u0302LE\u0301E"]  # as macOS writes accents
    copied(folders, tmp_path, "012", rename=lambda d: (*written, "Two")[d])
    assert score(with_labels(graph, names), tmp_path)[:2] == (24, 24)


def test_what_cannot_be_told_is_refused(graph, folders, tmp_path):
    copied(folders, tmp_path, "23456789")
    text = refusal(with_labels(graph, []), tmp_path)
    assert "has 8 class folders with images ('2', '3', '4', ...), the model has 10 classes and no label names" in text
    assert "cannot be told; give label_names in MODEL's JSON, or --labels F.csv" in text
    assert "other labels ('zero', 'one', 'two', ...)" in refusal(with_labels(graph, NAMES), tmp_path)
    mixed = ["2", "3", "4", *NAMES[:7]]
    assert "folder '5' is none of the model's 10 labels ('2', '3', '4', ...)" in refusal(
        with_labels(graph, mixed), tmp_path
    )
    twice = ["2", "2", *"3456789", "x"]
    assert "folder '2' may mean classes 0, 1 of the model" in refusal(with_labels(graph, twice), tmp_path)
    shutil.copytree(folders / "2", tmp_path / "TWO")
    shutil.copytree(folders / "2", tmp_path / "two")
    same = ["two", *map(str, range(2, 10)), "x"]
    assert "folders 'TWO' and 'two' mean the same class" in refusal(with_labels(graph, same), tmp_path)


def test_split_folder_is_no_class(graph, folders, tmp_path):
    shutil.copytree(folders, tmp_path / "val")
    assert "has 1 class folders with images ('val')" in refusal(graph, tmp_path)


def test_numbers_whose_order_is_not_alphabetical():
    found = sorted(map(str, range(12)))  # 0 1 10 11 2 ...
    with pytest.raises(ValueError, match="numbers whose alphabetical order is not that of the numbers"):
        folder_classes("here", found, [], 12)
    assert folder_classes("here", found, [str(i) for i in range(12)], 12)[0] == [0, 1, 10, 11, *range(2, 10)]
    padded = [f"{i:02d}" for i in range(12)]
    assert folder_classes("here", padded, [], 12)[0] == list(range(12))


def test_imagenet_wnids():
    wnids = import_timm().data.ImageNetInfo().label_names()
    assert (wnids[0], wnids[207], wnids[999]) == ("n01440764", "n02099601", "n15075141")
    decided, line = folder_classes("here", ["n01440764", "n02099601", "n15075141"], [], 1000)
    assert (decided, line) == ([0, 207, 999], "labels: 3 class folders matched by wnid")
    with pytest.raises(ValueError, match="folder 'n00000000' is none of the wnids of an ImageNet of 1000 classes"):
        folder_classes("here", ["n00000000", "n02099601"], [], 1000)
    with pytest.raises(ValueError, match="has 2 class folders"):  # two of ten classes: no ImageNet
        folder_classes("here", ["n01440764", "n02099601"], [], 10)


def test_limit_is_spread_over_the_classes(graph, folders, tmp_path):
    images, right, lines = score(graph, folders, limit=25)
    assert (images, right) == (25, 25)
    assert lines[1] == "images: 25 of 80, spread over 10 classes (seed 0)"
    labels = sorted(range(10)) * 8
    chosen = spread(labels, 25)
    assert chosen == sorted(chosen) == spread(labels, 25) and len(set(chosen)) == 25
    assert set(np.bincount([labels[i] for i in chosen])) == {2, 3}
    assert spread(labels, 25) != spread(labels, 25, seed=1)
    assert spread([0] * 5 + [1], 4)[-1] == 5 and spread(labels, 80) == list(range(80))


def test_sorted_labels_do_not_make_a_limit_one_class(graph, digits, tmp_path):
    """A CSV sorted by class, as many tools write it: the first 20 would all be zeros."""
    pairs = sorted(labelled_images(digits.paths.test, digits.paths.labels), key=lambda p: p[1])
    assert {label for _, label in pairs[:20]} == {0}
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{p.name},{label}\n" for p, label in pairs))
    notes = []
    result = api.evaluate(graph, digits.paths.test, tmp_path / "l.csv", limit=20, notes=notes)
    assert (result["images"], notes) == (20, ["images: 20 of 400, spread over 10 classes (seed 0)"])
    assert result["top1"] == 20


def test_some_images(folders, digits):
    notes = []
    chosen = some_images(folders, 10, notes)
    assert sorted(p.parent.name for p in chosen) == list("0123456789")
    assert notes == ["images: 10 of 80, spread over 10 subfolders (seed 0)"]
    flat = list_images(digits.paths.test)
    assert some_images(digits.paths.test, 7, notes) == flat[:7] and len(notes) == 1
    assert api.image_files(None, folders, 10) == chosen


def test_csv_written_by_a_spreadsheet(folders, tmp_path):
    path = tmp_path / "l.csv"
    name = next((folders / "4").iterdir()).name
    path.write_bytes(f"\ufefffile,label\r\n4/{name},4\r\n".encode())
    assert [label for _, label in labelled_images(folders, path)] == [4]
    path.write_text(f"file,label\n{'x' * 5000}.png,4\n")
    with pytest.raises(ValueError, match="line 2: no such image"):
        labelled_images(folders, path)


@pytest.mark.parametrize("header", ["file,label", "File,Label", "LABEL; FILE ", " File\tlabel"])
def test_column_names_in_any_case(tmp_path, header):
    (tmp_path / "a.png").write_bytes(b"")
    mark = next(m for m in ",;\t" if m in header)
    row = ["a.png", "7"] if header.strip().lower().startswith("file") else ["7", "a.png"]
    (tmp_path / "labels.csv").write_text(f"{header}\n{mark.join(row)}\n")
    assert labelled_images(tmp_path, tmp_path / "labels.csv") == [(tmp_path / "a.png", 7)]


def test_a_column_twice_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("file,File,label\na.png,b.png,7\n")
    with pytest.raises(ValueError, match="column file stands there twice"):
        labelled_images(tmp_path, tmp_path / "labels.csv")
