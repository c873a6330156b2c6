"""A triangle of routers, built in code: ping, break the short way, ping again.

sudo .venv/bin/python examples/python/triangle.py
"""

from vini import Network

net = Network("triangle", routing="ospf", daemon="bird")
a, b, c = net.routers("a", "b", "c")
net.link(a, b, delay="10ms")
net.link(b, c, delay="10ms")
net.link(a, c, cost=50, delay="30ms")

with net:  # up, ready and converged; down at the end, also on errors
    print(" > ".join(net.path(a, c)), "|", net.ping(a, c))

    net.fail(a, b, how="silent")
    net.wait_converged()
    print(" > ".join(net.path(a, c)), "|", net.ping(a, c))

    net.restore(a, b)
    net.wait_path(a, b, c)
    net.shape(a, b, delay="15ms")
    print(" > ".join(net.path(a, c)), "|", net.ping(a, c))

    print(a.run("ip route show to " + c.address, check=True).stdout.strip())
