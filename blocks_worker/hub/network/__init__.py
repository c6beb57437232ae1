"""The local network: the REST subset that the PubNub SDKs use, on loopback."""
