"""The broker: a Unix socket in each sliver, by which its processes ask the agent for what they can't do themselves.

What PlanetLab had in vsys and Proper (Bhatia et al. 2008; Muir et al. 2005).  `requests` is what is said, `door`
the socket, `guest` one connection, `answers` what is given and to whom, `service` keeps a door in each sliver.
"""
