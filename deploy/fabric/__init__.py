"""A Fabric network on loopback, with real binaries: for demonstrations, tests and drills.

A production channel is run by its member organisations, each with its own machines, certificate authority
and operators; `docs/fabric.md` says what they need from here.
"""
