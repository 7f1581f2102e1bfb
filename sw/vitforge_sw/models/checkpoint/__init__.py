"""Checkpoints: from a file as people have it to a timm model with its weights.

read (what the file is) -> nesting (where the weights are) -> names (what they are called) -> load (checked, in place).
"""

from .beside import hub_json_beside, label_names
from .load import load_model, read_state_dict
from .names import read_map

__all__ = ["hub_json_beside", "label_names", "load_model", "read_map", "read_state_dict"]
