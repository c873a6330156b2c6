"""How TCP throughput falls with the delay of a link: a parameter sweep, and its result as a table.

sudo .venv/bin/python examples/python/delay_sweep.py
"""

from importlib.util import find_spec

from vini import Network, table

DELAYS_MS = (1, 5, 10, 20)
WINDOW = 16 * 1024  # bytes; small, so that the round-trip time is what limits TCP

net = Network("sweep", routing="none")
left, right = net.hosts("left", "right")
net.link(left, right)

rows = []
with net:
    for delay_ms in DELAYS_MS:
        net.shape(left, right, delay=f"{delay_ms}ms")
        rtt = net.ping(left, right, count=5)
        flow = net.iperf(left, right, seconds=2, window=WINDOW)
        print(f"{delay_ms} ms one way: {flow}")
        rows.append({"delay_ms": delay_ms, "rtt_ms": rtt.median_ms, "mbit": flow.mbit})

result = table(rows)
print(result.to_pandas().to_string(index=False) if find_spec("pandas") else result)
