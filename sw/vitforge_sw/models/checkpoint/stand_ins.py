"""Harmless objects that training scripts save beside the weights, read without importing or running their classes.

torch's weights-only loading refuses every class that is not on its list. What is listed here is read as an empty
object or a plain dictionary in the place of the real one: only tensors are wanted, so that none of these classes has to
be installed.
"""

import contextlib
from collections import OrderedDict

import torch

_MAPPINGS = """
builtins.dict collections.defaultdict
yacs.config.CfgNode fvcore.common.config.CfgNode easydict.EasyDict addict.addict.Dict
mmcv.utils.config.ConfigDict mmengine.config.config.ConfigDict
pytorch_lightning.utilities.parsing.AttributeDict lightning.pytorch.utilities.parsing.AttributeDict
lightning_fabric.utilities.data.AttributeDict lightning.fabric.utilities.data.AttributeDict
"""
_OBJECTS = """
argparse.Namespace types.SimpleNamespace copyreg._reconstructor typing.Any
builtins.object builtins.list builtins.tuple builtins.int builtins.float builtins.str builtins.bool
builtins.frozenset builtins.range builtins.slice
pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath
pathlib._local.PosixPath pathlib._local.WindowsPath
datetime.datetime datetime.date datetime.timedelta datetime.timezone
numpy.dtype numpy.ndarray numpy.float64 numpy.float32 numpy.int64 numpy.bool_
numpy.core.multiarray.scalar numpy._core.multiarray.scalar
numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct
numpy.dtypes.Float64DType numpy.dtypes.Float32DType numpy.dtypes.Int64DType numpy.dtypes.BoolDType
omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.ContainerMetadata
omegaconf.base.Metadata omegaconf.nodes.AnyNode omegaconf.nodes.StringNode omegaconf.nodes.IntegerNode
omegaconf.nodes.FloatNode omegaconf.nodes.BooleanNode
ml_collections.config_dict.config_dict.ConfigDict mmengine.logging.history_buffer.HistoryBuffer
pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint
pytorch_lightning.callbacks.early_stopping.EarlyStopping
torch.torch_version.TorchVersion
"""


class _Nothing:
    """In the place of an object: takes whatever it is made and filled with, and keeps none of it."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _empty_mapping(cls, *args, **kwargs) -> OrderedDict:
    return OrderedDict()


def _stand_ins() -> list[tuple[type, str]]:
    last = lambda name: name.rpartition(".")[2]  # noqa: E731
    mappings = [(type(last(name), (), {"__new__": _empty_mapping}), name) for name in _MAPPINGS.split()]
    return mappings + [(type(last(name), (_Nothing,), {}), name) for name in _OBJECTS.split()]


_STAND_INS = _stand_ins()


def harmless_globals() -> contextlib.AbstractContextManager:
    """Within it, weights-only loading reads the listed classes as their stand-ins."""
    return torch.serialization.safe_globals(_STAND_INS)
