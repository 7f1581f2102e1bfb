"""Every strategy of the simulated schemes against its publication's equation, on numbers to check by hand."""

import json
import math

import pytest
import torch

from vitforge.cli import main
from vitforge.compare import Row, line, steps
from vitforge_sw.families.schemes import known_scheme
from vitforge_sw.families.vit.frontend import import_vit
from vitforge_sw.families.vit.precision.run import Task
from vitforge_sw.families.vit.schemes import get_scheme
from vitforge_sw.families.vit.simulated import codes, kernels, observers, schemes, transforms
from vitforge_sw.families.vit.simulated.grids import Grid, grid, grouped, weight_grid
from vitforge_sw.families.vit.simulated.model import calibrate, simulated_logits
from vitforge_sw.families.vit.simulated.observers import Stats, ema, minmax, omse, percentile
from vitforge_sw.families.vit.simulated.schemes import SIMULATED, Simulated
from vitforge_sw.families.vit.simulated.transforms import ptf, repq, smoothquant

T = torch.tensor


def stats(*batches) -> Stats:
    found = Stats.first(T(batches[0]))
    for batch in batches:
        found.see(T(batch), keep=1000)
    return found


def test_observers():
    s = stats([[0.0, -2.0], [4.0, 2.0]], [[0.0, -2.0], [14.0, 2.0]])
    assert minmax(s, True, 255)[1].tolist() == [14, 2] and float(minmax(s, False, 255)[0]) == -2
    assert ema(s, True, 255)[1].tolist() == pytest.approx([5, 2])  # 0.9 * 4 + 0.1 * 14
    many = Stats.first(torch.arange(20001.0)[:, None])
    many.see(torch.arange(20001.0)[:, None], 20001)
    low, high = percentile(many, True, 255)
    assert (float(low), float(high)) == (2, 19998)
    rare = Stats.first(torch.zeros(1, 1))
    rare.see(torch.cat([torch.linspace(0, 1, 10000), T([10.0])])[:, None], 20000)
    assert float(omse(rare, False, 15)[1]) < 5 < float(minmax(rare, False, 15)[1])  # one value is given up
    even = stats([[float(i)] for i in range(16)])
    assert float(omse(even, False, 15)[1]) == 15  # on the grid already: nothing shrinks


def test_grids():
    g = grid(T(-1.0), T(3.0), 2, False)  # steps of 4/3, zero at code 1
    assert g(T([-9.0, 0.0, 0.7, 3.0, 9.0])).tolist() == pytest.approx([-4 / 3, 0, 4 / 3, 8 / 3, 8 / 3])
    g = grid(T(-1.0), T(3.0), 3, True)  # steps of 1, -4..3
    assert g(T([-9.0, 0.4, 0.6, 9.0])).tolist() == [-4, 0, 1, 3]
    low, high = grouped(T([-1.0, -8.0, -1.0, -9.0]), T([1.0, 8.0, 2.0, 9.0]), groups=2)
    assert low.tolist() == [-1, -9, -1, -9] and high.tolist() == [2, 9, 2, 9]
    w = torch.ones(2, 16)
    w[0, 0], w[1] = 12.7, 0.5
    scales = [weight_grid(w, 8, g).scale for g in ("tensor", "channel", "group")]
    assert scales[0].item() == pytest.approx(0.1)
    assert scales[1][:, 0].tolist() == pytest.approx([0.1, 0.5 / 127])
    assert scales[2][0, [0, 1, 2]].tolist() == pytest.approx([0.1, 0.1, 1 / 127])


def test_attention_codes():
    p = T([1.0, 0.7, 0.36, 0.35, 2.0**-14, 2.0**-15, 0.0])
    assert codes.log2(p, 4).tolist() == [1, 0.5, 0.5, 0.25, 2.0**-14, 0, 0]  # 0.3536 is the border
    got = codes.log_sqrt2(T([1.0, 0.7, 0.5, 0.36, 0.0]), 4).tolist()
    assert got == pytest.approx([1, math.sqrt(2) / 2, 0.5, math.sqrt(2) / 4, 0])  # q = 0, 1, 2, 3
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(codes.log_sqrt2(x, 8), codes.log_base(x, 8, 0.5), atol=1e-6)  # the same rule, as a shift
    assert torch.equal(codes.log_base(x, 4, 1.0), codes.log2(x, 4))
    fine = Stats(T([0.0]), T([1.0]), T([0.0]), T([1.0]), 2.0 ** -(torch.arange(0, 12).float()[:, None] * 0.75))
    assert codes.adaptive_base(fine, 4) == 0.75  # values that are powers of 2^-0.75


def test_twin_uniform():
    small, large = T(0.01), T(0.1)
    got = codes.twin(T([0.014, 0.064, 0.079, 0.26, 5.0]), 4, small, large, False)
    assert got.tolist() == pytest.approx([0.01, 0.06, 0.1, 0.3, 0.7])
    got = codes.twin(T([-0.17, -0.012, 0.26]), 4, small, large, True)
    assert got.tolist() == pytest.approx([-0.08, -0.01, 0.3])  # clipped at -8 steps
    s = stats([[i / 1000] for i in range(10)], [[0.9]])
    small, large = codes.twin_steps(s, 8, False)
    assert math.log2(float(large / small)) == round(math.log2(float(large / small))) >= 2


def test_transforms():
    w = T([[1.0, 4.0]])
    s = stats([[16.0, -1.0], [-16.0, 1.0], [3.0, 0.3]])
    g, fold = smoothquant(s, w, 8, "minmax", True)
    assert fold.tolist() == pytest.approx([4, 0.5])  # sqrt(16 / 1), sqrt(1 / 4)
    assert g.scale.tolist() == pytest.approx([16 / 127, 2 / 127])
    g, fold = repq(s, w, 8, "minmax", False)
    assert g.scale.tolist() == pytest.approx([32 / 255, 2 / 255]) and fold.tolist() == pytest.approx([32 / 17, 2 / 17])
    g, fold = ptf(s, w, 8, "minmax", True)
    assert fold is None and (g.scale / g.scale.min()).tolist() == [8, 1]
    assert isinstance(g, Grid) and float(g.scale.max()) == pytest.approx(16 / 127)


def test_integer_exponentials():
    scale = 1 / 64
    # by hand: x0 = floor(-0.6931 * 64) = -45, b = floor(2.70732 * 64) = 173, c = floor(2.79212 * 4096) = 11436
    assert float(kernels.i_exp(T(0), scale)) == 11436 * 2.0**30
    assert float(kernels.i_exp(T(-50), scale)) == ((-5 + 173) * -5 + 11436) * 2.0**29  # z = 1, r = -5
    q = torch.arange(-600, 1)
    got = kernels.i_exp(q, scale) * kernels.i_exp_step(scale)
    assert float((got - torch.exp(q.double() * scale)).abs().max()) < 0.02
    # I-ViT, x0 = -64: q = -64 becomes -64 - 32 + 4 = -92: z = 1, r = -28: (-14 + 64) * 2^14
    assert float(kernels.shift_exp(T(-64), scale)) == 50 * 2.0**14
    got = kernels.shift_exp(q, scale) * scale / 2.0**15
    assert float((got - torch.exp(q.double() * scale)).abs().max()) < 0.08


def test_integer_softmax_and_gelu():
    g = torch.Generator().manual_seed(1)
    q = torch.randint(-127, 128, (20, 30), generator=g)
    want = torch.softmax(q.double() / 32, -1)
    assert float((kernels.shiftmax(q, 1 / 32) - want).abs().max()) < 0.06
    q = torch.randint(-2000, 2001, (20, 30), generator=g)  # fine steps: i-exp rounds ln 2 to whole ones
    want = torch.softmax(q.double() / 512, -1)
    got = kernels.log_int_softmax(q, 1 / 512)
    big = want > 2.0**-12
    assert float((torch.log2(got.double()) - torch.log2(want))[big].abs().max()) < 0.75
    # three equal scores: t = 3, leading one 1, next bit 1: code 2
    assert kernels.log_int_softmax(T([5, 5, 5]), 1 / 32).tolist() == [0.25] * 3
    assert kernels.log_int_softmax(T([5, 5]), 1 / 32).tolist() == [0.5] * 2  # t = 2: code 1
    x = torch.linspace(-4, 4, 255)
    want = torch.nn.functional.gelu(x)
    assert float((kernels.i_gelu(x) - want).abs().max()) < 0.02
    assert float((kernels.shift_gelu(torch.round(x * 127 / 4), 4 / 127) - want).abs().max()) < 0.12


@pytest.mark.parametrize("name", ["minmax", "channelwise", "fqvit_884", "ptq4vit", "repq_884", "smoothquant", "ivit"])
def test_on_digits(digits, name):
    """All 8-bit schemes stay near the float digits model; 4-bit attention costs more than 8."""
    task = Task(digits.model, digits.spec, digits.image, get_scheme("p2vit"), digits.calib[:32])
    vit = import_vit(digits.model)
    with torch.inference_mode():
        tap = calibrate(vit, SIMULATED[name], task.floats(digits.calib[:32]))
        got = simulated_logits(vit, tap, task.floats(digits.test[:100]))
        want = simulated_logits(vit, type(tap)(tap.scheme), task.floats(digits.test[:100]))
    db = float(10 * torch.log10(want.square().sum(1) / (got - want).square().sum(1)).mean())
    print(name, f"{db:.1f} dB")
    assert 12 < db < 60 and float((got.argmax(1) == want.argmax(1)).double().mean()) > 0.9


def test_names_are_the_strategies():
    assert schemes.OBSERVERS == tuple(observers.OBSERVERS) and schemes.TRANSFORMS == tuple(transforms.TRANSFORMS)


def test_refusals(digits, tmp_path, capsys):
    with pytest.raises(ValueError, match="fqvit_884: is simulated in float and cannot be compiled .log-int-soft"):
        known_scheme("fqvit_884")
    with pytest.raises(ValueError, match="softmax must be uniform or .*, not 'x'"):
        Simulated(name="a", source="", softmax="x")
    assert main(["schemes"]) == 0 and "ptq4vit" in capsys.readouterr().out
    assert main(["schemes", "repq"]) == 0 and '"log_sqrt2"' in capsys.readouterr().out


def test_compare_command(digits, tmp_path, capsys):
    paths = digits.paths
    argv = [
        "--checkpoint", paths.checkpoint, "--calib", paths.calib, "--calib-limit", 16, "--images", paths.test,
        "--labels", paths.labels, "--limit", 40, "--state", tmp_path / "s.json",
    ]  # fmt: skip
    argv = [str(a) for a in argv]
    assert main(["compare", str(paths.model), "minmax", "p2vit", *argv]) == 0
    first = capsys.readouterr().out
    assert "p2vit" in first and "simulated" in first and "float: 40/40" in first
    before = (tmp_path / "s.json").read_bytes()
    assert main(["compare", str(paths.model), "p2vit", "minmax", *argv]) == 0
    assert (tmp_path / "s.json").read_bytes() == before  # nothing was measured again: seconds are kept
    assert main(["compare", str(paths.model), "nonsense", *argv]) == 2
    assert "row 'nonsense' is unknown" in capsys.readouterr().err
    (tmp_path / "few.json").write_text(json.dumps({"base": "p2vit", "wbits": 3}))
    assert main(["compare", str(paths.model), str(tmp_path / "few.json"), *argv]) == 0
    assert "p2vit, few" in capsys.readouterr().out
    eight, few = list(json.loads((tmp_path / "s.json").read_text()).values())[1:]
    assert few["sqnr_db"] < eight["sqnr_db"] - 3
    (tmp_path / "few.json").write_text(json.dumps({"base": "p2vit", "wbit": 3}))
    assert main(["compare", str(paths.model), str(tmp_path / "few.json"), *argv]) == 2
    assert "unknown option 'wbit'" in capsys.readouterr().err


def test_published_drops_stand_beside_their_model():
    found = dict(integer=True, top1=1, images=2, agreement=50.0, sqnr_db=10.0)
    for row, drop in (
        (Row("p2vit_literal", get_scheme("p2vit_literal")), "+1.28"),
        (Row("repq", SIMULATED["repq"]), "+0.26"),
    ):
        assert line(row, found, "deit_tiny_patch16_224")[-1] == drop
        assert line(row, found, "vit_tiny_patch16_224")[-1] == ""


def test_ablation_steps(digits):
    rows = steps(digits.model)
    assert rows[0].text == "p2vit_literal" and rows[-1].text.endswith("= vitforge")
    import dataclasses

    named = dataclasses.replace(rows[-1].scheme, name="vitforge")
    assert named == get_scheme("vitforge")
    assert any(r.text.endswith("= p2vit") for r in rows)
    for a, b in zip(rows, rows[1:], strict=False):
        old, new = dataclasses.asdict(a.scheme), dataclasses.asdict(b.scheme)
        assert sum(old[k] != new[k] for k in old) == 1  # one option a step
