"""What `vitforge package` reads of a build - record, memory image, synth.json - is checked field by field before C and
users rely on it; what it writes of the record is C that says the same."""

import copy
import hashlib
import json
import math
import shutil
import subprocess

import pytest

from vitforge.cli import main
from vitforge.package.model import HEADER, c_model, literal
from vitforge.package.record import RECORD, SYNTH, _belongs, check, read_build
from vitforge.package.registers import DRIVERS
from vitforge_sw.compiler.program.record import FIELDS, SCHEMA

DELETE = object()


@pytest.fixture
def damaged(build, tmp_path, capsys):
    """A function of (file of the build, text or function of its data): the error line of `vitforge package`."""
    folder = tmp_path / "build"
    folder.mkdir()
    for name in ("build.json", "memory.bin"):
        shutil.copy(build / name, folder)

    def run(name, change):
        path = folder / name
        if callable(change):
            data = json.loads(path.read_text())
            change(data)
            change = json.dumps(data)
        path.write_bytes(change.encode() if isinstance(change, str) else change)
        before = sorted(folder.iterdir())
        assert main(["package", str(folder), "--board", "zcu104", "-o", str(tmp_path / "new" / "out")]) == 2
        assert sorted(folder.iterdir()) == before and not (tmp_path / "new").exists(), "something is left"
        line = capsys.readouterr().err
        assert line.startswith("vitforge package: ") and line.count("\n") == 1 and line.endswith("\n")
        return line.strip()

    return run


def put(path, value):
    """A change of build.json: a field of its record."""

    def change(data):
        *sections, name = path.split(".")
        entry = data["driver"]
        for section in sections:
            entry = entry[section]
        if value is DELETE:
            del entry[name]
        else:
            entry[name] = value

    return change


@pytest.mark.parametrize("path, value, says", [
    ("output", DELETE, "driver.output must be there"),
    ("output", 5, "driver.output must be a JSON object, not 5"),
    ("output.planes", DELETE, "driver.output.planes must be there"),
    ("output.colour", 5, "driver.output.colour is unknown"),
    ("schema", "vitforge-driver-0", f"driver.schema must be {SCHEMA!r}, not 'vitforge-driver-0'"),
    ("schema", DELETE, "driver.schema must be there"),
    ("input.pad", 5, "driver.input.pad must be a list, each an integer from -128 to 127, not 5"),
    ("input.pad", [0, 0], "driver.input.pad must have input.channels = 1 values, not 2"),
    ("input.pad", [128], "driver.input.pad must be a list, each an integer from -128 to 127, not [128]"),
    ("input.channels", 5, "driver.input.channels must be an integer from 1 to 4, not 5"),
    ("input.scale", "x", "driver.input.scale must be a number above 0, not 'x'"),
    ("output.scale", "x", "driver.output.scale must be a number above 0, not 'x'"),
    ("output.scale", math.nan, "driver.output.scale must be a number above 0, not nan"),
    ("output.scale", 10**400, "driver.output.scale must be a number above 0, not 1000"),
    ("output.zero_point", 1.5, "driver.output.zero_point must be an integer from -32768 to 32767, not 1.5"),
    ("output.labels", ["a", 3], "driver.output.labels must be a list, each text of at most 4095 bytes without NUL, "
     "not [1] = 3"),
    ("output.labels", ["a\0b"] * 10, r"not [0] = 'a\x00b'"),
    ("output.labels", ["\ud800"] * 10, r"not [0] = '\ud800'"),
    ("output.labels", ["a"], "driver.output.labels must have no names or output.classes = 10, not 1"),
    ("output.classes", 11, "driver.output.classes must be 10, not 11"),
    ("hardware.build_hash", 7, "driver.hardware.build_hash must be 0x"),
    ("memory.sha256", "0" * 64, "driver.memory.sha256 must be '"),
    ("memory.sha256", "0", "driver.memory.sha256 must be 64 hexadecimal digits, not '0'"),
    ("memory.file", "../memory.bin", "driver.memory.file must be 'memory.bin', not '../memory.bin'"),
    ("preset", "*/ int x; /*", "driver.preset must be 'tiny', not '*/ int x; /*'"),
    ("preset", "a\nb", r"driver.preset must be 'tiny', not 'a\nb'"),
    ("job.lag", 1, "driver.job.lag must be 0, not 1"),
    ("input.height", 9, "driver.input.height must be input.prepare.size = 8, not 9"),
    ("input.kernel", 4, "driver.input: size, kernel, stride and padding must give input.rows * input.columns = 16"),
    ("input.scale", 1e-300, "driver.input.scale must be 2^-16 to 2^16, not 1e-300"),
    ("input.prepare.crop_mode", "x", "driver.input: crop_mode must be one of"),
    ("input.prepare.crop_mode", [], "driver.input.prepare.crop_mode must be text"),
])  # fmt: skip
def test_damaged_records(damaged, path, value, says):
    line = damaged("build.json", put(path, value))
    assert "/build.json: " in line and says in line, line


def test_windows_of_another_size(damaged):
    """As many windows as the network has tokens, each with more pixels: the driver would write beyond the image."""

    def change(data):
        data["driver"]["input"] |= dict(channels=3, pad=[0, 0, 0], kernel=4, stride=2, padding=1)

    line = damaged("build.json", change)
    assert "driver.input: must have channels * kernel^2 = 4, the tokens' channels, not 48" in line


def test_damaged_files(damaged, build):
    text = (build / "build.json").read_text()
    assert "build.json is not JSON" in damaged("build.json", "{bad")
    for driver, says in (
        ([], "build.json: driver must be a JSON object, not []"),
        (None, "build.json: driver must be a JSON object, not None"),
        ({}, "has no record for drivers; compile again"),
    ):
        assert says in damaged("build.json", json.dumps(json.loads(text) | {"driver": driver}))


def test_damaged_memory_image(damaged, build):
    """Says which hash must be, and which is."""
    image = (build / "memory.bin").read_bytes()
    bad = image[:-1] + bytes([image[-1] ^ 1])
    wanted, found = (hashlib.sha256(x).hexdigest() for x in (image, bad))
    says = f"memory.bin hash must be {wanted}, is {found}"
    assert says in damaged("memory.bin", bad)


@pytest.mark.parametrize("text, says", [
    ("{bad", "synth.json: must be JSON ("),
    ("[]", "synth.json: must be a JSON object, not []"),
    ("{}", "synth.json: config_hash must be there"),
    ('{"config_hash": "0", "target": "xcup"}', "synth.json: total must be there"),
    ('{"config_hash": "0", "target": "xcup", "total": 3}', "synth.json: total must be a JSON object, not 3"),
    ('{"config_hash": "0", "target": "xcup", "total": {"dsp": 1}}', "synth.json: total.bram36 must be there"),
    ('{"config_hash": "0", "target": "xcup", "total": {"dsp": "1", "lut": 0, "ff": 0, "bram36": 0, "uram": 0}}',
     "synth.json: total.dsp must be a number of at least 0, not '1'"),
    ('{"config_hash": "0", "target": "xcup", "total": {"dsp": 1, "lut": NaN, "ff": 0, "bram36": 0, "uram": 0}}',
     "synth.json: total.lut must be a number of at least 0, not nan"),
])  # fmt: skip
def test_damaged_synthesis(damaged, text, says):
    assert says in damaged("synth.json", text)


@pytest.mark.parametrize("change", [lambda x: x.replace("vitforge_top.v\n", ""), lambda x: "../rtl/vf_host.v\n" + x])
def test_damaged_file_list(packaged, tmp_path, capsys, change):
    """Names of the Verilog go into Tcl, XML and paths."""
    shutil.copytree(packaged.parent, tmp_path / "build", ignore=shutil.ignore_patterns("vivado"))
    path = tmp_path / "build" / "rtl" / "files.f"
    path.write_text(change(path.read_text()))
    assert main(["package", str(tmp_path / "build"), "--board", "zcu104", "-o", str(tmp_path / "out")]) == 2
    says = f"{path}: must list vitforge_top.v and plain names of Verilog files: "
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_every_field_has_a_rule(build):
    """Of the declaration; and whatever else than its kind of value stands there is refused by name."""
    assert list(dict.fromkeys(".".join(n.split(".")[:2]) for n in RECORD)) == list(FIELDS)
    compiled = read_build(build)
    assert set(_belongs(compiled)) <= set(RECORD)
    refused = 0
    for name in RECORD:
        for value in (DELETE, None, True, "", "x", "\0", 1.5, -1, -(10**9), 1 << 40, math.inf, [], ["x"], {}):
            if value is not DELETE and RECORD[name].holds(value):
                continue
            data = {"driver": copy.deepcopy(compiled.driver)}
            put(name, value)(data)
            with pytest.raises(ValueError, match=rf"^x: driver\.{name} must be "):
                check(data["driver"], RECORD, "x", "driver.")
            refused += 1
    assert refused > 10 * len(RECORD) and set(SYNTH) == {"config_hash", "target", *(n for n in SYNTH if "total" in n)}


def test_every_number_belongs_to_the_build(damaged, build):
    """A number that program, memory image or configuration decides cannot be another one."""
    compiled = read_build(build)
    for name, value in _belongs(compiled).items():
        if isinstance(value, int):
            data = json.loads((build / "build.json").read_text())
            put(name, value + 1)(data)
            line = damaged("build.json", json.dumps(data))
            assert f"build.json: driver.{name} must be " in line, line


LABELS = ["a\nb", 'quote " end', "back\\slash", "??/", "what??!", "\u00e4\u65e5\u672c\U0001f600", "\x1b[0m\t\r",
          "\x011", "\u2028\u202e", "%s */ /* //"]  # fmt: skip


def test_labels_in_c(build, tmp_path):
    """Compiled by gcc with trigraphs, each label is its UTF-8 bytes; the file itself is plain ASCII."""
    record = copy.deepcopy(read_build(build).driver)
    record["output"]["labels"] = LABELS
    record["preset"] = "*/ int x; /* ??/\n"
    text = c_model(record)
    assert all(line.isascii() and line.isprintable() for line in text.split("\n"))
    (tmp_path / "vitforge_model.c").write_text(text)
    (tmp_path / "vitforge_model.h").write_text(HEADER)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include <string.h>\n#include "vitforge_model.h"\n'
        f"int main(void) {{\n    for (int i = 0; i < {len(LABELS)}; i++)\n"
        "        fwrite(vitforge_labels[i], 1, strlen(vitforge_labels[i]) + 1, stdout);\n    return 0;\n}\n"
    )
    flags = ["-std=c99", "-trigraphs", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{DRIVERS / 'c'}"]
    subprocess.run(["gcc", *flags, "main.c", "vitforge_model.c", "-o", "x"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "x"], capture_output=True, check=True).stdout
    assert said == "".join(f"{x}\0" for x in LABELS).encode()


def test_literal():
    assert literal('a"?\n\u00e41') == r'"a\042\077\012\303\2441"'
    assert literal("plain, 0-9 %*/") == '"plain, 0-9 %*/"'
