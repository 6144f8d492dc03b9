"""A shop that counts its visitors."""
