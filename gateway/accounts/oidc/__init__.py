"""Signing in with a hospital's identity provider (OpenID Connect): we are the relying party.

What is decided, and why it is our own: docs/adr/0018-identity-providers.md. `providers` are the configured
ones, `discovery` what each says of itself, `exchange` the way there and back, `id_token` what is believed of
an ID token, `identities` whose account a sub is, `pages` what a person sees.
"""
