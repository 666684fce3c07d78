"""A second client of the service, written from `proto/` alone: it shares no line with the Rust client."""
