"""The same anatomy in another scan: embeddings, search, maps, confidence, propagation."""

from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher
from alice3d.matching.results import Matches, PairFit

__all__ = ["EmbeddedScan", "Matcher", "Matches", "PairFit"]
