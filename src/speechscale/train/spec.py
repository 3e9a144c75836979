"""What one run is: everything its result depends on besides the data. No torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechscale.model.shape import ModelShape, Precision, Preset, check_heads


class RunSpec(BaseModel):
    """What to train, on how much, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # also the name of its folder
    series: str = "speech"
    layers: int = Field(ge=1)
    dim: int = Field(ge=2)
    heads: int = Field(ge=1)
    hidden_multiple: int = Field(default=256, ge=1)
    context: int = Field(default=2050, ge=2)
    batch: int = Field(ge=1)  # sequences per update
    tokens: int = Field(ge=1)  # D, rounded down to whole updates
    unique_tokens: int | None = Field(default=None, ge=1)  # use only so much of the corpus
    peak_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    preset: Preset = "paper"
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0)
    curve: int = Field(default=4, ge=0)  # test losses read on the way
    checkpoint_steps: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> RunSpec:
        check_heads(self.dim, self.heads)
        return self

    @property
    def tokens_seen(self) -> int:
        """D: whole updates of the budget."""
        return self.steps * self.batch * self.context

    @property
    def steps(self) -> int:
        return max(1, self.tokens // (self.batch * self.context))

    def shape(self, vocabulary: int) -> ModelShape:
        return ModelShape(
            layers=self.layers,
            dim=self.dim,
            heads=self.heads,
            vocabulary=vocabulary,
            context=self.context,
            hidden_multiple=self.hidden_multiple,
        )
