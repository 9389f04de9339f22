"""Records of fitted estimators, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scbatchnorm import BatchNormAutoencoder
from scbatchnorm._estimator import _restore
from scbatchnorm._persistence.record import to_record
from scbatchnorm._persistence.restore import from_record

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_of(model: BatchNormAutoencoder) -> dict[str, Any]:
    """What `pp.integrate` writes of a fitted estimator."""
    return to_record(model.fitted_, model.get_params(deep=False))


def restored(record: Mapping[str, Any]) -> BatchNormAutoencoder:
    """The estimator of a record."""
    defaults = BatchNormAutoencoder().get_params(deep=False)
    return _restore(BatchNormAutoencoder, *from_record(record, defaults, where="the record"))
