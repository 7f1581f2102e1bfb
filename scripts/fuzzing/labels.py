"""Labels: names of class folders, folders of images, CSV files. Where names say the classes, these must come out."""

import random
from pathlib import Path

from PIL import Image

from vitforge_sw.models.files import some_images
from vitforge_sw.models.labels import folder_classes, labelled_images

from .changes import printable, text

NAMES = ["cat", "Cat", "dog", "hot dog", "hot_dog", "0", "1", "2", "10", "n01440764", "n02099601", "n00000000", "x",
         "é", "e\u0301"]  # fmt: skip
ROWS = [*["a.png,1", "b.png,0"] * 6, "file,label", "a.png,-1", "b.png,1e3", '"a.png', ",", "c.png,3", "b.png;2",
        "\ufefffile,label", "\0", "a.png,99999999999999999999", "a.png,1,2,3", "label,file", "../a.png,1",
        "x" * 300 + ",1", "é,ü", "a.png,é", "b.png,ü", ""]  # fmt: skip
FILES = ["a/1.png", "b/2.png", "c/3.png", "c/d/4.jpg", ".hidden/5.png", "empty/x.txt", "10/6.png", "9/7.png", "8.png",
         "cat/9.PNG", "heic/a.heic", "._b/c.png", "n01440764/d.png", "n00000000/e.png"]  # fmt: skip


class Labels:
    """One of the three."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("a.png", "b.png"):
            Image.new("L", (2, 2)).save(folder / name)
        self.trees = [self._tree(random.Random(f"tree {i}"), folder / f"tree{i}") for i in range(60)]

    def _tree(self, r: random.Random, top: Path) -> Path:
        """A folder with some of the files, empty ones: nothing opens them. Now and then with a link."""
        top.mkdir()
        for name in r.sample(FILES, r.randrange(5)):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).touch()
        if r.random() < 0.4:
            name, to = r.choice([("l", top), ("l", "/nowhere"), ("l.png", "/nowhere"), ("l.txt", "/nowhere")])
            (top / name).symlink_to(to)
        return top

    def __call__(self, r: random.Random) -> None:
        r.choice([self.names, self.names, self.csv, self.csv, self.tree])(r)

    def names(self, r: random.Random) -> None:
        found = sorted({r.choice([*NAMES, text(r)]) for _ in range(r.randrange(1, 6))})
        names = [r.choice(NAMES) for _ in range(r.randrange(6))]
        classes = r.choice([None, len(names) or None, len(found), 10, 1000])
        names = names if classes in (None, len(names)) else []  # as models.checkpoint.label_names sees to it
        decided, line = folder_classes("here", found, names, classes)
        printable(line)
        assert len(set(decided)) == len(decided) == len(found), "classes that are not distinct"
        if set(found) <= set(names):
            assert [names[c] for c in decided] == found, "another class than the folder's name says"
        else:
            assert all(0 <= c < (classes or max(len(found), len(names))) for c in decided), "a class that is none"

    def csv(self, r: random.Random) -> None:
        """Rows for a.png and b.png with odd ones, line ends and encodings."""
        lines = r.choice([["file,label"]] * 4 + [[], ["file;label"]]) + [r.choice(ROWS) for _ in range(r.randrange(5))]
        lines += ["y" * 140_000] if r.random() < 0.002 else []  # longer than the csv module takes
        encoding = r.choice(["utf-8"] * 6 + ["utf-16", "latin-1"])
        path = self.folder / "l.csv"
        path.write_bytes(r.choice(["\n", "\r\n", "\r"]).join(lines).encode(encoding, "replace"))
        path = path if r.random() < 0.99 else r.choice([self.folder, self.folder / "none.csv"])
        found = labelled_images(self.folder, path, r.choice([(), ("a", "é", "ü")]))
        assert len({file for file, _ in found}) == len(found), "an image twice"

    def tree(self, r: random.Random) -> None:
        top, notes = r.choice([*self.trees, self.folder / "none"]), []
        if r.random() < 0.3:
            count = r.choice([None, 1, 2, 50])
            assert len(some_images(top, count, notes, r.randrange(3))) <= (count or 100), "more than were asked for"
        else:
            labelled_images(top, None, r.choice([(), ("a", "b", "c")]), r.choice([None, 1, 2, 3, 1000]), notes)
        for line in notes:
            printable(line)
