"""The catalogue of AI models that this gateway can run. Imports neither Django nor the database."""

from gateway.analysis.catalogue.cha2ds2_vasc import CHA2DS2VASc
from gateway.analysis.catalogue.ckd_epi import CKDEPI2021
from gateway.analysis.catalogue.framingham import FraminghamGeneralCVD
from gateway.analysis.catalogue.kfre import KidneyFailureRisk
from gateway.analysis.catalogue.model import Model
from gateway.analysis.catalogue.news2 import NEWS2
from gateway.analysis.catalogue.pce import PooledCohortEquations
from gateway.analysis.catalogue.summary import PooledCohortSummary
from ledger.errors import InvalidInput

MODELS: tuple[Model, ...] = (
    PooledCohortEquations(),
    FraminghamGeneralCVD(),
    CKDEPI2021(),
    KidneyFailureRisk(years=2),
    KidneyFailureRisk(years=5),
    CHA2DS2VASc(),
    NEWS2(),
    PooledCohortSummary(),
)


def find(name: str) -> Model:
    """The model with this name, `name@version` or digest. Raises InvalidInput (`unknown_model`)."""
    for model in MODELS:
        if name in {model.name, f"{model.name}@{model.version}"} or name == model.digest():
            return model
    raise InvalidInput("No such model here: `manage.py models` lists them.", code="unknown_model")
