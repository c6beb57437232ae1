"""One file for each product that is measured: its worker and its client."""
