"""Experiments: a topology, a timeline of what happens to it, probes that measure, and the record of doing it once."""

from vini.experiment.comparison import Comparison, compare, describe
from vini.experiment.conditions import Limits
from vini.experiment.digest import digest
from vini.experiment.reader import load
from vini.experiment.runner import run
from vini.experiment.timeline import Experiment

__all__ = ["Comparison", "Experiment", "Limits", "compare", "describe", "digest", "load", "run"]
