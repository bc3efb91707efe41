"""The section `model` of a run file: one class for each kind of operator, told apart by the key `name`.

Besides its keys each says which dataset families it is for, how many states it sees (`window`), whether it predicts the
change from the last of them (`residual`), and over how many large steps on its own output it is trained (`unroll`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlmd.config.base import Section

Precision = Literal["float32", "float64"]
LearnedStride = Annotated[int | None, Field(gt=0)]
Unroll = Annotated[int, Field(gt=0, le=64)]


class Model(Section):
    """What the operators have in common."""

    families: ClassVar[tuple[str, ...]] = ("newton1d",)

    def learned_at(self, stride: int) -> int:
        """The stride of the windows that an operator of `stride` is trained on."""
        return stride


class StateMap(Model):
    """A map of states: it sees one and predicts its change."""

    window: ClassVar[int] = 1
    residual: ClassVar[bool] = True


class LstmOperator(Model):
    """Two LSTM layers and a dense one: Kadupitiya et al. (2022), equation 4."""

    families: ClassVar[tuple[str, ...]] = ("newton1d", "lj_few_body")

    name: Literal["lstm_operator"] = Field("lstm_operator", description="kind of operator")
    units: int = Field(32, gt=0, description="units of each of the two LSTM layers")
    window: int = Field(5, gt=1, description="states that the operator sees, S_R")
    dropout: float = Field(0.15, ge=0, lt=1, description="dropout rate between the layers, in training")
    residual: bool = Field(True, description="predict the change from the last state instead of the state")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    noise: float = Field(0.0, ge=0, description="normal noise on the window in training, in standard deviations")
    dtype: Precision = Field("float32", description="precision of weights and arithmetic")


class Blocks(StateMap):
    """A map whose large step is made of equal blocks, which are learned at one stride and repeated at larger ones."""

    learned_stride: LearnedStride = Field(
        None, description="stride at which blocks are learned; operators of larger ones repeat them; none: their own"
    )

    def learned_at(self, stride: int) -> int:
        """See Model."""
        return stride if self.learned_stride is None else min(stride, self.learned_stride)


class ShearMap(Blocks):
    """A symplectic map of one particle on a line: drifts and kicks in turn, with learned coefficients."""

    name: Literal["shear_map"] = Field("shear_map", description="kind of operator")
    substep: int = Field(25, gt=0, description="longest stretch, in timesteps, that one block makes where √(m/k) is 1")
    stages: int = Field(6, gt=0, le=16, description="kicks in a block")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Literal["float64"] = Field("float64", description="precision of weights and arithmetic")


class ActionAngle(StateMap):
    """Angle and energy of one particle on a line: a large step is a shift of the angle."""

    name: Literal["action_angle"] = Field("action_angle", description="kind of operator")
    nodes: int = Field(64, ge=8, description="nodes of the coarse sum over the orbit that the angle starts from")
    units: int = Field(16, gt=0, description="units of the network that corrects it")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Precision = Field("float64", description="precision of weights and arithmetic")


class PairShears(Blocks):
    """A symplectic map of many Lennard-Jones atoms: shears with learned coefficients and a learned pair term."""

    families: ClassVar[tuple[str, ...]] = ("lj_few_body",)

    name: Literal["pair_shears"] = Field("pair_shears", description="kind of operator")
    substep: int = Field(25, gt=0, description="longest stretch, in timesteps, that one block of shears makes")
    stages: int = Field(3, gt=0, le=32, description="kicks in a block")
    correction: bool = Field(True, description="learn a pair term beside the coefficients")
    unroll: Unroll = Field(1, description="large steps on its own output that it is trained over")
    dtype: Precision = Field("float64", description="precision of weights and arithmetic")


MODELS: Mapping[str, type[Model]] = MappingProxyType(
    {
        "lstm_operator": LstmOperator,
        "shear_map": ShearMap,
        "action_angle": ActionAngle,
        "pair_shears": PairShears,
    }
)
AnyModel = Annotated[LstmOperator | ShearMap | ActionAngle | PairShears, Field(discriminator="name")]
