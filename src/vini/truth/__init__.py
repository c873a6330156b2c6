"""Truth: what links really give, measured, and compared with what was asked (docs/explanation/links.md, "Truth")."""

from vini.truth.counting import ByElement, Numbered
from vini.truth.direction import Direction, directions, to_measure
from vini.truth.here import Here
from vini.truth.judge import judge
from vini.truth.measure import Check, check_lightly, check_thoroughly
from vini.truth.seen import Frame, Noise, Seen
from vini.truth.tolerance import Tolerance
from vini.truth.verdict import Judgement, Outcome, Verdict, worst

__all__ = [
    "ByElement", "Check", "Direction", "Frame", "Here", "Judgement", "Noise", "Numbered", "Outcome", "Seen",
    "Tolerance", "Verdict", "check_lightly", "check_thoroughly", "directions", "judge", "to_measure", "worst",
]  # fmt: skip
