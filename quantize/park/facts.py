"""What parking needs to know of a loaded model, and where its calibration is."""

from __future__ import annotations

from pathlib import Path

from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.llama import Model
from quantize.model_ropes import ropes_of
from quantize.park.embedding import Embedding
from quantize.park.fingerprint import fingerprint
from quantize.park.parking import ModelFacts
from quantize.park.plain import Frame
from quantize.park.profile import Profile


def profile_path(directory: Path, mark: str) -> Path:
    """Where the calibration of the model with this fingerprint is kept."""
    return directory / f"{mark}.calibration"


def facts_of(model: Model, geometry: Geometry, calibrations: Path) -> ModelFacts:
    """Facts of a loaded model. A calibration that cannot be read is as good as none.

    Raises:
        OSError: if the model's file cannot be read any more.
    """
    mark = fingerprint(model.path)
    try:
        embedding = Embedding(model)
    except (StateError, OSError, ValueError):
        embedding = None
    try:
        profile = Profile.load(profile_path(calibrations, mark), mark)
    except (StateError, OSError):
        profile = None
    return ModelFacts(mark, Frame(geometry, ropes_of(model, geometry)), embedding, profile)
