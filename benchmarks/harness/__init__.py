"""The benchmark harness: entries side by side in interleaved rounds."""
