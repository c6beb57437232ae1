"""Start an instance; join or start the local hub: the floor that knows worker and hub."""
