"""How passwords are kept: Argon2id, at the cost that OWASP's Password Storage Cheat Sheet asks for.

Django's own parameters take 100 MB of memory for each sign-in, and eight threads; a flood of sign-ins
would take a small server down.
"""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Hasher(Argon2PasswordHasher):
    memory_cost = 47_104  # KiB
    time_cost = 1
    parallelism = 1
