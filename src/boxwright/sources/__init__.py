"""Where bytes come from: local trees, base systems, images, archives."""
