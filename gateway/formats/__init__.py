"""How dates are written, where the product's way is not Django's: FORMAT_MODULE_PATH."""
