"""Provenance of a model: the spec, the code revision and the identities of the data that it was trained with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue, SerializerFunctionWrapHandler, model_serializer


class TrainingProvenance(BaseModel):
    """Everything that a model depends on. As JSON it has the fields that are set, and no others.

    A run sets all fields but `imported_from`, and `trunk` only with the schedule `wsd`; an imported model sets
    `imported_from`, `encoder` and `kmeans`. Fields of other versions are kept, so that a difference is named.

    Attributes:
        imported_from: path of a foreign model.
        revisions: of the stage that trained it.
        spec: the fields of the spec that the result depends on.
        train: hash of the training shards; one for each corpus of a mixture.
        test: hash of the test shards.
        encoder: identity of the encoder of the units.
        kmeans: SHA-256 of the codebook of the units; None where it is unknown.
        unigram: SHA-256 of the tokenizer; None for a model of units.
        trunk: the fields that the steps before the decay depend on.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    imported_from: str | None = None
    revisions: dict[str, int] = {}
    spec: dict[str, JsonValue] = {}
    train: str | list[str] | None = None
    test: str | None = None
    encoder: JsonValue = None
    kmeans: str | None = None
    unigram: str | None = None
    trunk: dict[str, JsonValue] | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        values: dict[str, JsonValue] = handler(self)
        return {key: value for key, value in values.items() if key in self.model_fields_set}

    def shared_with_trunk(self) -> dict[str, JsonValue]:
        """What trunk and branch have in common, as JSON: data, code and the `trunk` part of the spec."""
        return {key: value for key, value in self.model_dump().items() if key != "spec"}
