"""What each layer of a quantized model still says of the float one, noted while it is built."""

import torch

HELD = 4  #: every fourth calibration image is held back where roundings are chosen, and judged here


class Quality:
    """SQNR of each layer's outputs, dB: integer weights on the integer model's own inputs against the float model.

    ``layers``: name -> 10 log10(sum of float^2 / sum of error^2) over the images that ``held`` picks.
    """

    def __init__(self):
        self.layers: dict[str, float] = {}

    def note(self, name: str, got: torch.Tensor, want: torch.Tensor) -> None:
        """``got``, ``want``: a layer's outputs of all calibration images, image first; same shapes."""
        got, want = held(got), held(want)
        noise = (want - got).square().sum().double().clamp(min=1e-30)
        self.layers[name] = float(10 * torch.log10(want.square().sum().double().clamp(min=1e-30) / noise))

    def worst(self, count: int = 5) -> list[tuple[str, float]]:
        """(layer, dB) of the layers that say the least, the worst first."""
        return sorted(self.layers.items(), key=lambda item: item[1])[:count]


def held(x: torch.Tensor) -> torch.Tensor:
    """The images held back; all of fewer than four."""
    return x[HELD - 1 :: HELD] if len(x) >= HELD else x
