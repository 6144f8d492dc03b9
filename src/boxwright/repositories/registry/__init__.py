"""OCI registries (OCI distribution-spec 1.1): blobs, manifests, referrers."""
