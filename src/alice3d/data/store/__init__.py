"""The folder of prepared scans: arrays, index, specification, splits, checks."""

from alice3d.data.store.spec import StoreSpec
from alice3d.data.store.store import Case, Store, limited

__all__ = ["Case", "Store", "StoreSpec", "limited"]
