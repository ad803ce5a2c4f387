"""Find the same anatomy in another scan: embeddings, matches of points, maps between two scans, guards."""

from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher, Matches, PairFit

__all__ = ["EmbeddedScan", "Matcher", "Matches", "PairFit"]
