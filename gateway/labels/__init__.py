"""The rules of sensitivity labels: pure, no Django, no keys; for the loader, the keyholder and commands."""
