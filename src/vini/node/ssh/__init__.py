"""SSH into slivers: a server of its own beside the agent, which lives on when that ends (RFC 4251 to 4254).

It is a program of its own, `python -m vini.node.ssh`, and not sshd(8): sshd would open forwarded connections in the
node's network namespace, and takes three times as long for a login (docs/explanation/ssh.md).
"""
