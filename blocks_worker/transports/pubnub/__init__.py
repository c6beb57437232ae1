"""The pubnub transport: the SDK driven call by call, so that nothing is lost in silence."""
