"""The catalogue of AI models that this gateway can run. Imports neither Django nor the database."""

from gateway.analysis.catalogue.model import Model
from gateway.analysis.catalogue.pce import PooledCohortEquations
from ledger.errors import InvalidInput

MODELS: tuple[Model, ...] = (PooledCohortEquations(),)


def find(name: str) -> Model:
    """The model with this name, `name@version` or digest. Raises InvalidInput (`unknown_model`)."""
    for model in MODELS:
        if name in {model.name, f"{model.name}@{model.version}"} or name == model.digest():
            return model
    raise InvalidInput("No such model here: `manage.py models` lists them.", code="unknown_model")
