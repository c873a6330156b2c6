"""Images: root file systems of slivers, from directories, archives and OCI images, kept by what is in them."""
