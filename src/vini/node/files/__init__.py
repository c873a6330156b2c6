"""Conf files: the central asks for them, this machine's administrator says where they may be, and the agent writes."""
