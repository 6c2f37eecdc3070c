"""Learned detectors on snippet features: what follows the backbone, trained in minutes on cached tables."""
