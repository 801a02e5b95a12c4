"""The sandbox: an installation of synthetic people whose clock moves ahead and whose parts fail as told.

Nothing in here is named by what a hospital runs. The product's processes know one clock and no switch; the
sandbox starts them through `moved.py` and with settings of its own, which refuse to be those of a production.
"""
