"""Abilene: fail Denver - Kansas City while pings and paths are measured, and say what was seen.

sudo .venv/bin/python examples/python/abilene_failure.py
"""

from pathlib import Path

from vini import Network
from vini.experiment.probes import Path as PathProbe
from vini.experiment.probes import Ping

ABILENE = Path(__file__).parents[1] / "abilene.yaml"
NORTH = ("washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle")
SOUTH = ("washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle")

net = Network.load(ABILENE, name="abilene-from-python")

with net:
    net.wait_path(*NORTH)
    rtt, way = Ping("washington", "seattle", every_s=0.05), PathProbe("washington", "seattle", every_s=0.2)
    with net.measure(rtt=rtt, way=way) as measured:
        before = net.ping("washington", "seattle")
        failed = measured.now()
        net.fail("denver", "kansas-city", how="silent")
        net.wait_path(*SOUTH)
        repaired = measured.now()
        after = net.ping("washington", "seattle")

seen = measured.summary("rtt")
print(f"before: {before}")
print(f"after:  {after}")
print(f"{seen['lost']} of {seen['sent']} pings were lost.")
print(f"Routing went round it {repaired - failed:.1f} s after the cut.")

table = measured.table("rtt")  # a pyarrow.Table; .to_pandas() makes it a DataFrame
print(table.slice(0, 5).to_pylist())
