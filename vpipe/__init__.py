"""vpipe: video files into motion, motion into labels, labels into moments, from the shell."""

__version__ = "0.1.0"
