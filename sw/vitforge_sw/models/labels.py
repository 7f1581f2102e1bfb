"""What class an image is of: a CSV file, or the name of the folder that it lies in.

A folder's name means a class if it is one of the model's label names, or an ImageNet wnid where the model has as many
classes as an ImageNet. Otherwise only the folders' alphabetical order is left, which says something if there are
exactly as many folders as classes; nothing else is taken for an answer.
"""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from .files import list_images
from .text import shown
from .timm_import import import_timm
from .written import read_written

WNID = re.compile(r"n\d{8}")


def _few(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(map(repr, names[:count])) + (", ..." if len(names) > count else "")


def _key(name: str) -> str:
    """Names that differ in case, in the kind of gap or in the encoding of accents are the same name."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def _by_name(where: str, found: list[str], names: Sequence[str]) -> list[int] | None:
    """Position in ``names`` of each folder; None if none is among them."""
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        exact.setdefault(name, []).append(i)
        loose.setdefault(_key(name), []).append(i)
    hits = [exact.get(name) or loose.get(_key(name)) for name in found]
    if not any(hits):
        return None
    for name, hit in zip(found, hits, strict=True):
        if not hit:
            raise ValueError(f"{where}: folder {name!r} is none of the model's {len(names)} labels ({_few(names)})")
        if len(hit) > 1:
            raise ValueError(f"{where}: folder {name!r} may mean classes {', '.join(map(str, hit))} of the model")
    classes = [hit[0] for hit in hits]
    if len(set(classes)) < len(classes):
        twice = next(i for i, c in enumerate(classes) if c in classes[:i])
        other = found[classes.index(classes[twice])]
        raise ValueError(f"{where}: folders {other!r} and {found[twice]!r} mean the same class of the model")
    return classes


def _wnids(classes: int) -> list[str]:
    """The wnids of an ImageNet with that many classes, in the order of timm's models; [] if there is none."""
    data = import_timm().data
    subset = data.infer_imagenet_subset({"num_classes": classes})
    return list(data.ImageNetInfo(subset).label_names()) if subset else []


def folder_classes(
    where: str, found: list[str], names: Sequence[str] = (), classes: int | None = None
) -> tuple[list[int], str]:
    """The class index of each folder name in ``found``, and one line that says how it was decided.

    ``names``: the model's label names, empty if it has none; ``classes``: how many it has, None if unknown. Raises
    ValueError where the names do not say which class they mean.
    """
    if names and (decided := _by_name(where, found, names)) is not None:
        return decided, f"labels: {len(found)} class folders matched by name to the model's {len(names)} labels"
    if classes and all(WNID.fullmatch(name) for name in found) and (wnids := _wnids(classes)):
        missing = next((name for name in found if name not in wnids), None)
        if missing is not None:
            raise ValueError(f"{where}: folder {missing!r} is none of the wnids of an ImageNet of {classes} classes")
        return [wnids.index(n) for n in found], f"labels: {len(found)} class folders matched by wnid"
    how = "give label_names in MODEL's JSON, or --labels F.csv"
    if classes is not None and len(found) != classes:
        known = f"other labels ({_few(names)})" if names else "no label names"
        raise ValueError(
            f"{where}: has {len(found)} class folders with images ({_few(found)}), the model has {classes} classes and "
            f"{known}: which class a folder is cannot be told; {how}"
        )
    order = sorted(found)
    if all(name.isascii() and name.isdigit() for name in order) and order != sorted(order, key=int):
        raise ValueError(
            f"{where}: folders {_few(order)} are numbers whose alphabetical order is not that of the numbers, so they "
            f"do not say which class they mean; {how}"
        )
    return [order.index(name) for name in found], (
        f"labels: {len(found)} class folders in alphabetical order ({shown(order[0])} = 0"
        + (f", {shown(order[-1])} = {len(order) - 1})" if len(order) > 1 else ")")
    )


def _table(labels: str | Path) -> list[dict]:
    """The rows of a CSV as spreadsheets write it: UTF-8 or UTF-16 by its mark, commas, semicolons or tabs; column
    names in any case."""
    try:
        blob = read_written(labels)
        text = blob.decode("utf-16" if blob[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        header = text.partition("\n")[0]
        mark = next((m for m in ",;\t" if m in header), ",")
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
        reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        if twice := [name for name in ("file", "label") if list(reader.fieldnames).count(name) > 1]:
            raise ValueError(f"column {twice[0]} stands there twice")
        return list(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"labels {labels}: cannot be read ({error}); save it as UTF-8") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"labels {labels}: cannot be read ({error})") from None


def _from_csv(folder: Path, labels: str | Path, names: Sequence[str] = ()) -> list[tuple[Path, int]]:
    rows = _table(labels)
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise ValueError(f"labels {labels}: needs a header file,label and at least one row")
    found: dict[str, tuple[Path, int, int]] = {}
    for number, row in enumerate(rows, 2):
        text, where = (row["label"] or "").strip(), f"labels {labels} line {number}"
        named = None if text.isascii() and text.isdigit() or not names else _by_name(where, [text], names)
        if not named and not (text.isascii() and text.isdigit()):
            known = f" or one of the model's labels ({_few(names)})" if names else ""
            raise ValueError(f"{where}: label must be a class index{known}, not {text!r}")
        path = folder / (row["file"] or "")
        if not os.path.isfile(path):
            raise ValueError(f"{where}: no such image {path}")
        if (same := os.path.normpath(path)) in found:
            _, before, label = found[same]
            raise ValueError(f"{where}: {row['file']} stands in line {before} already, with label {label}")
        found[same] = path, number, named[0] if named else int(text)
    return [(path, label) for path, _, label in found.values()]


def labelled_images(
    folder: str | Path,
    labels: str | Path | None = None,
    names: Sequence[str] = (),
    classes: int | None = None,
    notes: list[str] | None = None,
) -> list[tuple[Path, int]]:
    """(file, class index) pairs: from a CSV with header ``file,label``, else from one subfolder per class.

    ``names``, ``classes``: the model's label names and number of classes (``folder_classes``); hidden folders and
    folders without images are no classes. A line for the user is appended to ``notes``. ValueError on bad input.
    """
    folder = Path(folder)
    if labels is not None:
        return _from_csv(folder, labels, names)
    files = list_images(folder, notes)
    stray = next((p for p in files if p.parent == folder), None)
    if stray is not None:
        raise ValueError(
            f"image folder {folder}: without --labels every image lies in a class's subfolder, not {stray.name}"
        )
    tops = [path.relative_to(folder).parts[0] for path in files]
    found = sorted(set(tops))
    decided, line = folder_classes(f"image folder {folder}", found, names, classes)
    if notes is not None:
        notes.append(line)
    meaning = dict(zip(found, decided, strict=True))
    return [(path, meaning[top]) for path, top in zip(files, tops, strict=True)]
